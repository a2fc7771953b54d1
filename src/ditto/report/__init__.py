"""The report stage: one HTML file that opens offline, from a fidelity file.  It only renders.

Names, commands and notes are untrusted text: the template escapes everything, and the page allows no script and no
network.
"""

from __future__ import annotations

from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ditto.artifacts.fidelity import Fidelity
from ditto.artifacts.observation import Observation
from ditto.artifacts.profile import Profile
from ditto.report import text
from ditto.report.studies import view_of
from ditto.report.view import page_of

__all__ = ["render"]


def render(fidelity: Fidelity, profile: Profile | None = None, observation: Observation | None = None) -> str:
    """The report as one HTML document.

    Args:
        profile: adds what the profile holds (its seed, classes, blocks).
        observation: adds what the recording lost and noted; of the rest of it nothing is shown.
    """
    environment = Environment(
        loader=PackageLoader("ditto.report"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    templates = resources.files("ditto.report").joinpath("templates")
    css = "".join(templates.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "studies.css"))
    environment.globals.update(
        label=text.label_of,
        figure=text.figure,
        error=text.error_text,
        verdict_class=text.verdict_class,
        verdict_text=text.verdict_text,
        breakable=text.breakable,
        bound=text.bound_text,
        interval=text.interval_text,
        dash=text.NONE,
        # The style sheet is the program's own text; nothing of the artifacts is in it.
        css=Markup(css),
    )
    page = {**page_of(fidelity, profile, observation), "studies": [view_of(study) for study in fidelity.studies]}
    return environment.get_template("report.html.j2").render(page)
