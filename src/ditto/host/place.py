"""Where a clone stands while it is compared with its original: in place of an app's one service, or as one tier of an
application's clone, whose other tiers are clones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import LensRun
from ditto.host.app import AppRun
from ditto.host.clones import clone_command
from ditto.host.lens_session import run_under_lens
from ditto.host.progress import Progress


@dataclass(frozen=True)
class Place:
    """Runs of an original and of its clone, of which only the one service is measured.

    Attributes:
        spec: the app.
        application: of several services, the app with the clones of all in their place.
        service: which one; None for the only one of an app.
    """

    spec: AppSpec
    application: AppSpec | None = None
    service: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        return self.service or self.spec.name

    def original(self) -> AppRun:
        """A run of the original, not started."""
        return AppRun(self.spec, only=self.service)

    def clone(self, binary: Path, options: Sequence[str] = ()) -> AppRun:
        """A run of the clone, not started.

        Args:
            binary: the clone; of several services, all stand where they were built.
            options: further words for it.
        """
        if self.application is None:
            return AppRun.for_clone(self.spec, [*clone_command(binary), *options])
        return AppRun.for_application(self._with(options), only=self.service)

    def whole_original(self) -> AppRun:
        """A run of the original, all services measured."""
        return AppRun(self.spec)

    def whole_clone(self) -> AppRun:
        """A run of the application's clone, all tiers measured."""
        assert self.application is not None
        return AppRun.for_application(self.application)

    def under_lens(
        self, binary: Path, options: Sequence[str], folder: Path, codec: str, folds: bool, progress: Progress
    ) -> LensRun:
        """A run of the clone under lens; see `run_under_lens`."""
        if self.application is None:
            command = [*clone_command(binary), *options]
            return run_under_lens(self.spec, folder, codec, progress, clone=command, folds=folds)
        return run_under_lens(self._with(options), folder, codec, progress, only=self.service, folds=folds)

    def _with(self, options: Sequence[str]) -> AppSpec:
        """The application with further words for the one clone."""
        assert self.application is not None
        services = tuple(
            service.model_copy(update={"command": (*service.command, *options)})
            if service.name == self.service
            else service
            for service in self.application.services
        )
        return self.application.model_copy(update={"services": services})
