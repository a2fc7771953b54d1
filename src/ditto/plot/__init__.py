"""The plot stage: a graph as one HTML page that opens offline.  It only renders.

Names are untrusted text: the template escapes everything, and the page's policy allows no network and no script but
the page's own, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ditto.artifacts.graph import Graph
from ditto.plot import view

__all__ = ["page_of"]


def page_of(graph: Graph) -> str:
    """The graph as one HTML document."""
    nodes, lines = view.nodes_of(graph)
    environment = Environment(
        loader=PackageLoader("ditto.plot"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    script = _text("graph.js")
    repaired = {name: count for name, count in graph.repaired.model_dump().items() if count}
    dropped = {name: count for name, count in graph.dropped.model_dump().items() if count}
    layers = max((node.layer for node in nodes), default=0) + 1
    rows = max((node.order for node in nodes), default=0) + 1
    return environment.get_template("graph.html.j2").render(
        graph=graph,
        nodes=nodes,
        lines=lines,
        paths=[view.path_of(nodes[line.caller], nodes[line.to]) for line in lines],
        middles=[
            (
                (nodes[line.caller].x + nodes[line.to].x + view.WIDTH) / 2,
                (nodes[line.caller].y + nodes[line.to].y + view.HEIGHT) / 2,
            )
            for line in lines
        ],
        size=(view.WIDTH, view.HEIGHT),
        canvas=(2 * view.MARGIN + (layers - 1) * view.COLUMN + view.WIDTH + 50, 2 * view.MARGIN + rows * view.ROW),
        kinds=sorted({node.kind for node in nodes}),
        repaired=repaired,
        dropped=dropped,
        data={
            "nodes": [[node.layer, node.order] for node in nodes],
            "lines": [[line.caller, line.to] for line in lines],
            "geometry": [view.WIDTH, view.HEIGHT, view.COLUMN, view.ROW, view.MARGIN],
            "most": view.MOST_AT_ONCE,
        },
        # The program's own texts; nothing of the graph is in them.
        css=Markup(_text("graph.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _text(name: str) -> str:
    return resources.files("ditto.plot").joinpath(f"templates/{name}").read_text(encoding="utf-8")
