"""How all optimizers of the PyTorch door take a step: laid out once, and again whenever something has moved."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steprule.doors.guards import HasGuards
from steprule.doors.torch.deciding_device import deciding_device_of
from steprule.doors.torch.decision import Decision
from steprule.doors.torch.evaluating import HasEvaluated
from steprule.doors.torch.extent import check_together
from steprule.doors.torch.formats import names_of
from steprule.doors.torch.guards import TensorGradients
from steprule.doors.torch.launch import TensorLaunch
from steprule.doors.torch.layout import Entries, Layout
from steprule.doors.torch.modes import is_intercepted
from steprule.doors.torch.naming import Naming
from steprule.doors.torch.options import Choice, GroupOptions
from steprule.doors.torch.positions import Item, Places, Presence, places_of, rounds
from steprule.doors.torch.ranks import check_ranks
from steprule.doors.torch.shards import local_of
from steprule.launch.guards import Gradients, Guards
from steprule.launch.readings import Reading, StepMonitor
from steprule.runtime.interrupts import uninterrupted

__all__ = ["Stepping"]


class Stepping(HasEvaluated, HasGuards):
    """The steps of a torch optimizer, which ``Base`` is; it has the groups, the state and the options."""

    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]
    state: Any
    guards: Guards
    _naming: Naming
    _option_names: tuple[str, ...]
    """The options that a group must have: those in ``defaults`` when the optimizer was made."""
    _monitor: StepMonitor | None = None
    _released: type[Tensor] | None = None
    """What stands for gradients that were used in the backward pass, while ``step_in_backward`` is at work."""
    _options: list[GroupOptions]
    _launch: TensorLaunch | None
    _places: tuple[list[GroupOptions], Places] | None
    _decision: Decision | None = None
    _presence: Presence
    _is_stepping = False
    _stepping_alone: list[Tensor]
    _is_agreed = False
    """Whether the processes that have parts of the parameters have found that they agree."""
    _is_refused = False
    """Whether the device has refused the last step, as far as it was asked: when the step was to be read."""

    def _rule(self, group: Mapping[str, Any]) -> Choice:
        raise NotImplementedError

    def _naming_of(self, group: Mapping[str, Any]) -> Naming:
        raise NotImplementedError

    def _known(self, group: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _needed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def _read(self, grad: Tensor, group: Mapping[str, Any]) -> Tensor:
        raise NotImplementedError

    def _advance(self) -> None:
        """Take a step along the gradients that there are.

        Raises:
            StateError: when a step is under way.
        """
        self._refuse_reentry("step()")
        try:
            self._is_stepping = True
            readings = self._stepped()
            if self._monitor is not None and readings is not None and not self._is_refused:
                self._monitor.take(readings or None)
        finally:
            self._is_stepping = False

    def _stepped(self) -> list[Reading] | None:
        """Take a step, and return what is read of it; None if it is skipped."""
        self._check_training()
        self._refresh()
        found = self.__dict__.get("found_inf")
        if found is not None and not isinstance(found, Tensor):
            found = None  # GradScaler tells 0 where no parameter has a gradient
        grads = [param.grad for group in self.param_groups for param in group["params"]]
        if self._released is not None:
            grads = [None if type(local_of(grad)) is self._released else grad for grad in grads]
        launch = None if is_intercepted() else self._launch
        states = list(self.state.values())
        if launch is not None and launch.fits(found) and launch.is_valid(self._options, states, grads, self._read):
            is_infinite = found is not None and not launch.device_decides and found.item()
            factor = None if is_infinite else launch.factor(self._gradients_of(grads))
            if factor is None:
                launch.release()
                return None
            return self._run(launch, factor, None)
        if launch is not None and launch.is_calm:
            self._presence = Presence()
        self._launch = None
        with torch.set_grad_enabled(self.defaults.get("differentiable", False)):
            return self._step_anew(grads, found)

    def _run(self, launch: TensorLaunch, factor: float, entries: Entries | None) -> list[Reading]:
        """Take the step of a launch, and return what is read of it: nothing where it is not due."""
        readings: list[Reading] = []
        names: list[str] | None = None
        if self._monitor is not None and self._monitor.is_due() and not launch.is_captured:
            names = [name for index, own in enumerate(self._options) for name in names_of(own.group, index)]
        launch.begin()
        try:
            launch.take(factor, entries, names, readings)
            self._is_refused = names is not None and launch.device_decides and not readings
        except BaseException:  # a signal, before or after the step was taken
            self._launch = None
            if self._monitor is not None and launch.is_done:
                self._monitor.take(readings or None)
            raise
        return readings

    def _gradients_of(self, grads: Sequence[Tensor | None]) -> Gradients:
        return TensorGradients(self._options, grads, self._read, self.guards.clip_value)

    @torch.no_grad()
    def _step_alone(self, param: Tensor) -> None:
        """Step one parameter, wherever it stands in the groups. A signal finds all of that done, or nothing."""
        alone = self._stepping_alone
        try:
            alone.append(param)
            self._check_training()
            self._refresh()
            self._agree()
            if self._places is None or self._places[0] is not self._options:
                self._places = (self._options, places_of(self._options))
            self._launch = None
            turns = self._places[1].get(param, ())
            with uninterrupted() if len(turns) > 1 else contextlib.nullcontext():
                for place, own in turns:
                    self._step_once([(place, param.grad, param, own)])
        finally:
            alone.pop()

    def _refresh(self) -> None:
        """Follow the options of the groups, which anyone may change between steps."""
        groups = self.param_groups
        if [id(options.group) for options in self._options] != list(map(id, groups)):
            self._options = self._options_of(groups)
        choose, scale = self._rule, self.__dict__.get("grad_scale")
        for options in self._options:
            options.refresh(choose, scale)

    def _options_of(self, groups: Sequence[dict[str, Any]]) -> list[GroupOptions]:
        return [
            GroupOptions(
                self._rule, self._naming_of(group), self._needed(group), self._known(group), group, index, self.guards
            )
            for index, group in enumerate(groups)
        ]

    def _step_anew(self, grads: Sequence[Tensor | None], found: Tensor | None) -> list[Reading] | None:
        """Lay out a step, take it, and keep its layout for the next if it can serve again.

        Returns what is read of the step, or None if it is skipped.
        """
        params = [(param, options) for options in self._options for param in options.group["params"]]
        items = [(place, grad, *pair) for place, (grad, pair) in enumerate(zip(grads, params, strict=True))]
        turns = rounds(items)
        for own in self._options if len(turns) > 1 else ():
            check_together(own, "a parameter stands in its groups twice, and takes two steps, each")
        self._agree()
        self._presence.note(grads)
        device = self._deciding_device(items, found) if len(turns) == 1 else None
        if found is not None and device is None and found.item():
            return None
        self._set_deciding_device(device)
        factor: float | None = None
        launches: list[TensorLaunch | None] = []
        readings: list[Reading] = []
        # Where a parameter stands twice there are several launches, of which a signal handler finds all or none.
        with uninterrupted() if len(turns) > 1 else contextlib.nullcontext():
            for turn in turns:
                layout, launch = self._laid_out(turn, device, found)
                if not launches:  # every gradient is in the first round
                    factor = launch.factor(self._gradients_of(grads))
                if factor is None:
                    return None
                _check_capture(layout, launch)
                readings += self._run(launch, factor, layout.entries)
                launches.append(launch if launch.prepare_reuse(layout, self._options) else None)
        self._launch = launches[0] if len(launches) == 1 else None
        return readings

    def _agree(self) -> None:
        """Ask the other processes, once, whether they step by the same options: of DTensors, or a process group."""
        if not self._is_agreed:
            check_ranks(self._options, self.guards, self.state)
            self._is_agreed = True

    def _step_once(self, items: Sequence[Item]) -> None:
        layout, launch = self._laid_out(items, self._deciding_device(items, None), None)
        launch.begin()
        launch.take(launch.factor(self._gradients_of([])) or 1.0, layout.entries, None, [])

    def _deciding_device(self, items: Sequence[Item], found: Tensor | None) -> torch.device | None:
        return deciding_device_of(self._options, items, self.guards, (found, self.__dict__.get("grad_scale")))

    def _set_deciding_device(self, device: torch.device | None) -> None:
        """Let the groups know who reads their tensors; where it is this machine again, it reads them now."""
        for own in self._options:
            if own.deciding_device is not None and device is None:
                own.deciding_device = None
                own.refresh(self._rule, self.__dict__.get("grad_scale"))
            own.deciding_device = device

    def _laid_out(
        self, items: Sequence[Item], device: torch.device | None, found: Tensor | None
    ) -> tuple[Layout, TensorLaunch]:
        layout = Layout(self._read, self.state, items, device, self._presence.waverers)
        if device is None:
            self._settle()
            self._decision = None
            return layout, TensorLaunch(layout, self.guards)
        if self._decision is None or self._decision.numbers.device != device:
            self._settle()
            self._decision = Decision(self.guards, device)
        return layout, TensorLaunch(layout, self.guards, self._decision, found)

    def _settle(self) -> None:
        """Take over what a device has counted. Waits for it."""
        if self._decision is not None:
            self._decision.download()

    def _forget(self) -> None:
        """Lay out the next step anew."""
        self._options, self._launch, self._places, self._decision = [], None, None, None
        self._stepping_alone = []
        self._presence, self._is_agreed = Presence(), False

    @property
    def skipped(self) -> int:
        """The steps that were skipped since their gradients were not finite. Waits for a device that decides."""
        self._settle()
        return self.guards.skipped

    def _checkpoint_extra(self) -> dict[str, Any]:
        self._settle()
        return super()._checkpoint_extra()

    def _take_checkpoint_extra(self, extra: Mapping[str, Any], hyperparameters: bool = True) -> None:
        super()._take_checkpoint_extra(extra, hyperparameters)
        if self._decision is not None:
            self._decision.upload()


def _check_capture(layout: Layout, launch: TensorLaunch) -> None:
    if launch.is_captured and not layout.entries.is_empty:
        raise RuntimeError(
            "the first step() is captured in a CUDA graph, whose replays would start the state anew; nothing was "
            "captured. Take a few steps before"
        )
