// Runs the worker of the search in a hidden frame where the page is opened from the disk: there, browsers start none.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      const file = new URL(address, location.href).href.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
      this.inside.document.open();
      this.inside.document.write(`<script>postMessage = parent.postMessage.bind(parent)</script><script src="${file}"></script>`);
      this.inside.document.close();
      window.addEventListener("message", (event) => {
        if (event.source === this.inside) {
          this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        }
      });
    }

    postMessage(data) {
      const send = () => this.inside.dispatchEvent(new MessageEvent("message", { data }));
      // What is sent before the worker's script has run would be lost.
      if (this.inside.document.readyState === "complete") send();
      else this.inside.addEventListener("load", send, { once: true });
    }
  };
}
