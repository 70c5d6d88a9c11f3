"""Writes runs for TensorBoard: a folder for each row, with scalars, curves, parameters, and a text on the case."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from harness.api import API_VERSION, Json, Row, RunInfo, hookimpl
from harness.observers.records import Record, facts_of, place_of, record_of, text_of

_SESSION: Final = "_hparams_/session_start_info"
_SESSION_END: Final = "_hparams_/session_end_info"
_PLUGIN: Final = "hparams"
"""The names by which TensorBoard finds parameters, which it compares in a table of their own."""

_UNNAMEABLE: Final = re.compile(r"[^\w\-. ,=+:@]|^\.+")


class TensorBoard:
    """Writes events into ``FOLDER/RUN/WORKLOAD/TECHNIQUE/CASE``, for ``tensorboard --logdir FOLDER``."""

    HARNESS_API = API_VERSION

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._place = Path()

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        """Write the suite, the selection and the environment as a text."""
        self._place = place_of(run, "tensorboard", self._folder) / run.id
        facts = json.dumps(facts_of(run), indent=1, default=str)
        indented = "".join(f"    {line}\n" for line in facts.splitlines())  # Markdown shows that as it is
        self._write(self._place / "run", [(0, _text("run", indented))], run.started)

    @hookimpl
    def case_finished(self, row: Row) -> None:
        """Write the row into a folder of its own."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        record = record_of(row)
        values = [(0, value) for value in _parameters(record, row)]
        values += [(0, _text("case", _table({**record.tags, **record.params})))]
        values += [(0, Summary.Value(tag=name, simple_value=value)) for name, value in record.metrics.items()]
        values += [
            (step, Summary.Value(tag=f"curves/{name}", simple_value=value))
            for name, points in record.curves.items()
            for step, value in points
        ]
        folder = self._place.joinpath(*(_UNNAMEABLE.sub("-", part) for part in record.parts))
        self._write(folder, values, row.started)

    @hookimpl
    def run_finished(self, run: RunInfo) -> None:
        """Do nothing: each row is on disk as it ends."""

    def _write(self, folder: Path, values: list[tuple[int, Any]], started: str) -> None:
        """Write the events of a folder, in place of those that are there."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if folder.is_dir():
            shutil.rmtree(folder)
        writer = EventFileWriter(str(folder))
        for step, value in values:
            time = datetime.fromisoformat(started).timestamp()
            writer.add_event(Event(wall_time=time, step=step, summary=Summary(value=[value])))
        writer.close()


def _text(name: str, markdown: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    kind = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    content = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()])
    return Summary.Value(tag=f"{name}/text_summary", metadata=kind, tensor=content)


def _table(facts: Mapping[str, Json]) -> str:
    """Return facts as a table in Markdown."""
    cells = [(name, text_of(value).replace("|", "\\|").replace("\n", " ")) for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells)])


def _parameters(record: Record, row: Row) -> list[Any]:
    """Return what makes TensorBoard list the row with its parameters, and with whether it failed."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

    start = SessionStartInfo(group_name=record.name, start_time_secs=datetime.fromisoformat(row.started).timestamp())
    told = {name: record.tags[name] for name in ("technique", "workload", "lane", "stage", "status")}
    for name, value in {**told, **record.params}.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = text_of(value)
    end = SessionEndInfo(status=STATUS_SUCCESS if row.ok else STATUS_FAILURE)
    parts = {
        _SESSION: HParamsPluginData(session_start_info=start),
        _SESSION_END: HParamsPluginData(session_end_info=end),
    }
    return [
        Summary.Value(
            tag=tag,
            metadata=SummaryMetadata(
                plugin_data=SummaryMetadata.PluginData(plugin_name=_PLUGIN, content=data.SerializeToString())
            ),
        )
        for tag, data in parts.items()
    ]
