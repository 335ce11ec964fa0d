"""May a model that was trained be put before users? A pure decision from what was measured, with its reasons.

What is measured is the same before and after a run, on rows that the run has not seen (`heldout`), on the
evaluation cases that accepted corrections have left (`cases`), and by a judge, where one was asked.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from django.utils.translation import gettext as _

from llmsite.core.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a model has to reach. Scores and rates are between 0 and 1."""

    rows_least: int = 1
    """Of held-out rows and evaluation cases together."""
    heldout_least: int = 1
    """Of rows that the run has not seen: only they show what was forgotten. 0 promotes without knowing it."""
    loss_growth_most: float = 0.02
    """By how much of itself the loss on held-out rows may grow."""
    score_drop_most: float = 0.02
    """By how much the exact matches or the ROUGE-L of either set may fall."""
    cases_rouge_least: float = 0.0
    """Which ROUGE-L the answers to the evaluation cases have to reach."""
    win_rate_least: float = 0.5
    """How often the judge has to prefer it, a tie counting half."""

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> Self:
        """Those of `given` in place of the usual ones. Raises InvalidInput."""
        known = {field.name for field in fields(cls)}
        for name, value in (given or {}).items():
            if name not in known:
                raise InvalidInput(field=f"thresholds.{name}", reason=_("This field is not known here."))
            _check(name, value)
        return cls(**(given or {}))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a model back: a code and the numbers that it is about."""

    code: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    reasons: tuple[Reason, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_rows(self) -> list[dict[str, Any]]:
        """The reasons as they are stored: [{"code", …numbers}]."""
        return [{"code": reason.code, **reason.data} for reason in self.reasons]


def decide(
    results: Mapping[str, Any], thresholds: Thresholds | None = None, *, is_judged: bool = False
) -> Verdict:
    """The verdict on `results`, which are those of `Evaluation.results`.

    `is_judged` says that a judge was asked for, without whose word nothing passes.
    """
    limits = thresholds or Thresholds()
    reasons = [*_too_few(results, limits)]
    for name in ("heldout", "cases"):
        if (measured := results.get(name)) and measured["after"]["count"]:
            reasons += _worse(name, measured["before"], measured["after"], limits)
    if is_judged and not results.get("judge"):
        reasons.append(Reason("not_judged", {}))
    reasons += _judged(results.get("judge"), limits)
    return Verdict(tuple(reasons))


def sentence(reason: Mapping[str, Any]) -> str:
    """A stored reason in the reader's language."""
    return _SENTENCES[reason["code"]]() % {**reason, "set": _set_name(reason.get("set", ""))}


# --- The rules ---------------------------------------------------------------------------------------


def _too_few(results: Mapping[str, Any], limits: Thresholds) -> list[Reason]:
    count = sum(results[name]["after"]["count"] for name in ("heldout", "cases") if results.get(name))
    if count < limits.rows_least:
        return [Reason("too_few_rows", {"count": count, "least": limits.rows_least})]
    unseen = results["heldout"]["after"]["count"] if results.get("heldout") else 0
    if unseen < limits.heldout_least:
        return [Reason("too_few_held_out", {"count": unseen, "least": limits.heldout_least})]
    return []


def _worse(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], limits: Thresholds
) -> list[Reason]:
    reasons = []
    if name == "heldout" and _loss(after) > _loss(before) * (1 + limits.loss_growth_most):
        reasons.append(Reason("loss_grew", _both("loss", before, after)))
    reasons += [
        Reason(f"{score}_fell", {"set": name, **_both(score, before, after)})
        for score in ("exact_match", "rouge_l")
        if after[score] < before[score] - limits.score_drop_most
    ]
    if name == "cases" and after["rouge_l"] < limits.cases_rouge_least:
        data = {"after": _rounded(after["rouge_l"]), "least": limits.cases_rouge_least}
        reasons.append(Reason("cases_below", data))
    return reasons


def _judged(judge: Mapping[str, Any] | None, limits: Thresholds) -> list[Reason]:
    if judge is None or judge["rate"] >= limits.win_rate_least:
        return []
    names = ("rate", "low", "high")
    return [
        Reason(
            "judge_prefers_before",
            {**{name: _rounded(judge[name]) for name in names}, "least": limits.win_rate_least},
        )
    ]


def _loss(measured: Mapping[str, Any]) -> float:
    """One that is no number, which is stored as none, is worse than any other."""
    return math.inf if measured["loss"] is None else float(measured["loss"])


def _both(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {"before": _rounded(before[name]), "after": _rounded(after[name])}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


_COUNTS = {"rows_least": 1, "heldout_least": 0}
"""The thresholds that are whole numbers, and the least that each may be."""


def _check(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (least := _COUNTS.get(name)) is not None:
        if not (isinstance(value, int) and is_number and least <= value <= 1_000_000):
            reason = _("This must be a whole number from %(least)s on.") % {"least": least}
            raise InvalidInput(field=f"thresholds.{name}", reason=reason)
    elif not (is_number and 0 <= value <= 1):
        raise InvalidInput(field=f"thresholds.{name}", reason=_("This must be a number between 0 and 1."))


# --- What is said of it ------------------------------------------------------------------------------

_SENTENCES = {
    "too_few_rows": lambda: _(
        "It was measured on %(count)s rows, and %(least)s are needed: keep rows out of the training, or "
        "accept corrections."
    ),
    "too_few_held_out": lambda: _(
        "%(count)s rows were kept out of its training, and %(least)s are needed: without them nobody sees "
        "what it has forgotten. Train with a larger eval_fraction, or evaluate it with a lower threshold."
    ),
    "loss_grew": lambda: _("Its loss on rows that it has not seen grew from %(before)s to %(after)s."),
    "exact_match_fell": lambda: _(
        "Of the answers to %(set)s a share of %(before)s was exactly right before, and %(after)s is now."
    ),
    "rouge_l_fell": lambda: _(
        "The likeness (ROUGE-L) of its answers to the right ones fell on %(set)s from %(before)s to "
        "%(after)s."
    ),
    "cases_below": lambda: _(
        "The likeness (ROUGE-L) of its answers to accepted corrections is %(after)s, and %(least)s is asked "
        "for."
    ),
    "not_judged": lambda: _(
        "A judge compares answers to accepted corrections, and there are none to be used yet."
    ),
    "judge_prefers_before": lambda: _(
        "The judge prefers it in a share of %(rate)s of the cases (95%% interval %(low)s to %(high)s), and "
        "%(least)s is asked for."
    ),
}


def _set_name(name: str) -> str:
    return {"heldout": _("held-out rows"), "cases": _("accepted corrections")}.get(name, name)
