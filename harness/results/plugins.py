"""Names the option that loads a plugin of a stored run again."""

from __future__ import annotations

from collections.abc import Mapping

from harness.api import Json


def option_of(plugin: Mapping[str, Json]) -> str:
    """Return the ``-p`` option that loads a plugin of a run; an empty text for an installed plugin.

    Runs of earlier versions do not say the module, which most often has the name of the plugin.
    """
    if plugin.get("distribution") != "" or plugin.get("status") != "ok":
        return ""
    return f"-p {plugin.get('module') or 'harness_' + str(plugin.get('name')).replace('-', '_')}"
