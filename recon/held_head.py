"""A head's map with what lies beside it: the settings' holder or a default, fitted and checked by the counts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spectac.recon.em import Update
from spectac.recon.errors import InputError
from spectac.recon.holder import alone, chosen_holder
from spectac.recon.holder_fit import USUAL_SHARE, holder_share
from spectac.recon.map_likelihood import unfit
from spectac.recon.scatter.montecarlo import MonteCarloScatter
from spectac.recon.scatter.rounds import ScatterRounds
from spectac.recon.settings import FITTED, TYPICAL
from spectac.recon.skull_fit import CheckedSkull, checked_skull
from spectac.recon.thinning import whole_counts
from spectac.recon.types import HolderShare, MuMap, Projections, Study

HISTORIES = 60_000
"""Photon histories of the one transport for fits of skull and holder. Ten times as many and a second round moved fits
by 1 % of the head's attenuation at most (3 patients, true and predicted maps)."""


@dataclass(frozen=True, eq=False)
class HeldHead:
    """A map with what was put beside the head.

    Parameters
    ----------
    mu
        Map of both.
    holder
        "none", "typical", "fitted" or a file's name; None: as the map has it.
    notes
        What the user should know.
    share
        Density of a fitted holder.
    skull
        What the counts say of the head's skull; None where they were not asked.
    transported
        Photopeak with the scatter by photon transport that the share was fitted with.

    Examples
    --------
    >>> HeldHead(mu, "none").share  # doctest: +SKIP
    """

    mu: MuMap
    holder: str | None
    notes: tuple[str, ...] = ()
    share: HolderShare | None = None
    skull: CheckedSkull | None = None
    transported: Projections | None = None


class HeadHolding:
    """Puts heads of one study into a holder.

    Parameters
    ----------
    study
        Raw projections.
    photopeak
        Its photopeak and, where windows give it, the expected scatter.
    scatter_corrected
        Whether scatter is part of the reconstruction.
    holder
        Setting of the user; None: the model's default.

    Raises
    ------
    InputError
        For a holder that cannot be read.

    Examples
    --------
    >>> HeadHolding(study, photopeak, True, None).held(mu, "typical")  # doctest: +SKIP
    """

    def __init__(self, study: Study, photopeak: Projections, scatter_corrected: bool, holder: Path | None) -> None:
        self.study, self.photopeak, self.scatter_corrected = study, photopeak, scatter_corrected
        self.holder = None if holder is None else str(holder)
        self.on_update: Callable[[Update], None] | None = None
        self._transport: ScatterRounds | None = None
        # What is missing is told before anything takes time.
        if self.holder is not None:
            chosen_holder(self.holder, study.acquisition, photopeak.energy_kev)

    def with_holder(self, holder: Path | None) -> "HeadHolding":
        """The same for another holder."""
        other = HeadHolding(self.study, self.photopeak, self.scatter_corrected, holder)
        other._transport = self._transport
        return other

    def held(self, mu: MuMap, default: str | None = None, *, head_alone: bool = False) -> HeldHead:
        """Map with the holder of the settings, or else the default, instead of what it has beside the head.

        Parameters
        ----------
        mu
            Map.
        default
            "none", "typical" or "fitted"; None: without a setting the map stays as it is.
        head_alone
            Whether the map has nothing beside the head.

        Raises
        ------
        InputError
            For a holder of the settings that cannot be placed.
        """
        assumed = self.holder is None
        named = default if self.holder is None else self.holder
        if named is None:
            return HeldHead(mu, None)
        holder, notes = chosen_holder(named, self.study.acquisition, self.photopeak.energy_kev)
        found = HeldHead(mu if head_alone else alone(mu), Path(named).name, notes)
        if holder is not None:
            try:
                held, placed = holder.beside(found.mu, self.study.acquisition)
            except InputError as error:
                if not assumed:
                    raise
                placed = (f"holder: none, as no {named} one can be placed: {error}",)
                found = replace(found, holder="none", notes=(*notes, *placed))
            else:
                head, found = found.mu, replace(found, mu=held, notes=(*notes, *placed))
                found = self._fitted(head, found) if named == FITTED else found
        if assumed:
            found = replace(found, notes=(*found.notes, "holder: assumed; --holder tells what there was"))
        return found

    def checked(self, head: MuMap, default: str | None = None) -> HeldHead:
        """A head after `skull_fit.checked_skull`, with what `held` gives.

        Raises InputError where the counts cannot tell, and as `held`.
        """
        reason = unfit(self.study.acquisition)
        if reason is not None:
            raise InputError(reason)
        whole_counts(self.study)
        found: list[tuple[MuMap, HeldHead]] = []

        def hold(head: MuMap) -> tuple[MuMap, Projections]:
            held = self.held(head, default, head_alone=True)
            found.append((head, held))
            return held.mu, self._transported(held.mu) if held.transported is None else held.transported

        checked = checked_skull(head, hold, np.random.default_rng(1))
        # The last correction may have failed: the head before it is the one that was checked.
        held = next(held for of, held in found if of is checked.head)
        return replace(held, skull=checked, notes=(*held.notes, checked.note))

    def _fitted(self, head: MuMap, typical: HeldHead) -> HeldHead:
        """Head in a holder whose density is estimated from the counts; in the whole one where they cannot tell it."""
        reason = unfit(self.study.acquisition)
        if reason is not None:
            note = f"holder: typical, as its density cannot be estimated: {reason}"
            return replace(typical, holder=TYPICAL, notes=(*typical.notes, note))
        holder = typical.mu.per_cm - head.per_cm

        def with_share(share: float) -> MuMap:
            return replace(typical.mu, per_cm=head.per_cm + np.float32(share) * holder)

        scatter, transported = "", None
        try:
            transported = self._transported(with_share(USUAL_SHARE))
        except InputError:
            scatter = ", with scatter from the windows, whose errors lower it"
            if self.photopeak.scatter is None:
                scatter = ", without a correction of scatter, which raises it"
        fit = holder_share(self.photopeak if transported is None else transported, head, typical.mu)
        note = f"holder: {fit.share:.2f} +- {fit.sd:.2f} of a typical one's density, estimated from the counts{scatter}"
        return HeldHead(with_share(fit.share), FITTED, (*typical.notes, note), share=fit, transported=transported)

    def _transported(self, mu: MuMap) -> Projections:
        """The photopeak with its scatter by photon transport through a map; InputError where that cannot be told."""
        if self._transport is None:
            if not self.scatter_corrected:
                raise InputError("scatter is not corrected")
            self._transport = ScatterRounds(self.study, self.photopeak, MonteCarloScatter(1, HISTORIES))
        return replace(self.photopeak, scatter=self._transport.scatter(mu, self.on_update).estimate.counts)
