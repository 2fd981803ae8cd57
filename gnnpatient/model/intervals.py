"""The likelihood of competing hazards where of the first cause only an interval of time is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SeenIntervals:
    """What visits show of some landmarks: the first cause between two visits, the others at their own time.

    Until the last visit that was without it (`after`) a landmark is event-free. From there to `time` it is
    not known whether the first cause came; the others did not come before `time`, and have the same hazard
    whether it came or not. All shares are of the length of an interval, within which hazards are constant.

    Attributes
    ----------
    first : Bool[Tensor, " landmark"]
        Who has the first cause: it came in (after, time], and no other came by `time`.
    event : Int[Tensor, " landmark"]
        0 none, k the k-th cause.
    free : Float[Tensor, "landmark time"]
        Share of each interval before `after`; none in the interval of an event.
    stay : Float[Tensor, "landmark time"]
        Share from `after` to `time`; none in the interval of an event.
    ended : Float[Tensor, "landmark time"]
        1 in the interval of an event that is not the first cause.
    alive : Float[Tensor, "landmark time"]
        Share before `time`.
    overlap : Float[Tensor, "landmark time"]
        Logarithm of the share in (after, time], of those with the first cause.
    within : Float[Tensor, " landmark"]
        Share of (after, time] before the last time. The rest counts as being event-free up to that.
    """

    first: Bool[Tensor, " landmark"]
    event: Int[Tensor, " landmark"]
    free: Float[Tensor, "landmark time"]
    stay: Float[Tensor, "landmark time"]
    ended: Float[Tensor, "landmark time"]
    alive: Float[Tensor, "landmark time"]
    overlap: Float[Tensor, "landmark time"]
    within: Float[Tensor, " landmark"]

    @classmethod
    def of(
        cls,
        event: Int[Tensor, " landmark"],
        time: Float[Tensor, " landmark"],
        after: Float[Tensor, " landmark"],
        end: Float[Tensor, " time"],
        dtype: torch.dtype = torch.float32,
    ) -> SeenIntervals:
        """Cut what was seen at the ends of some intervals.

        Parameters
        ----------
        event : Int[Tensor, " landmark"]
            0 none, k the k-th cause.
        time : Float[Tensor, " landmark"]
            Days after the landmark by which the event came, or of the end of observation.
        after : Float[Tensor, " landmark"]
            Days after the landmark of the last visit without the first cause, below `time` where it came.
        end : Float[Tensor, " time"]
            Ends of the intervals, float64.
        dtype : torch.dtype
            Of the shares, default float32.

        Returns
        -------
        SeenIntervals
        """
        start = torch.cat([end.new_zeros(1), end[:-1]])
        first, after, time = event == 1, after.double(), time.double()

        def share(until: Tensor) -> Tensor:
            return ((until[:, None] - start) / (end - start)).clamp(0, 1)

        free, alive = share(after), share(time)
        place = torch.searchsorted(end, time.clamp(min=1e-9)).masked_fill(event <= 1, -1)
        ended = place[:, None] == torch.arange(len(end), device=end.device)
        # of those without the first cause any will do, so that no logarithm is infinite
        low, high = after.where(first, 0.0), time.where(first, 1.0)
        within = ((end[-1] - low) / (high - low)).clamp(0, 1)
        overlap = (share(high) - share(low)).where(within[:, None] > 0, 1.0).log()
        parts = (
            free.masked_fill(ended, 0),
            (alive - free).masked_fill(ended, 0),
            ended,
            alive,
            overlap,
            within,
        )
        return cls(first, event.long(), *(part.to(dtype) for part in parts))

    def log_likelihood(
        self, log_hazard: Float[Tensor, "*fit landmark slot time"]
    ) -> Float[Tensor, "*fit landmark"]:
        """The logarithm of the probability of what was seen.

        Parameters
        ----------
        log_hazard : Float[Tensor, "*fit landmark slot time"]
            Log probability, per interval, of staying event-free (slot 0) and of each cause.

        Returns
        -------
        Float[Tensor, "*fit landmark"]
        """
        free, first = log_hazard[..., 0, :], log_hazard[..., 1, :]
        stay = torch.logaddexp(free, first)  # of no other cause
        index = self.event[:, None, None].expand(*log_hazard.shape[:-2], 1, log_hazard.shape[-1])
        cause = log_hazard.gather(-2, index)[..., 0, :]
        known = (free * self.free + stay * self.stay + cause * self.ended).sum(-1)
        alive = stay * self.alive
        later = alive.sum(-1, keepdim=True) - alive.cumsum(-1)
        each = first + free.cumsum(-1) - free + later + self.overlap
        came = self.within * each.logsumexp(-1) + (1 - self.within) * free.sum(-1)
        return torch.where(self.first, came, known)
