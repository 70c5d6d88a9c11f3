// asv's pages had this address once: an anchor that is none of this page's is one of theirs, as in an old bookmark or feed.
if (location.hash.length > 1 && !document.getElementById(location.hash.slice(1))) location.replace(`asv.html${location.hash}`);
