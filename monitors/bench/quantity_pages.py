"""A page for each guarded quantity, from its declaration and the simulated runs that it warned of.

What a quantity scores and what it leaves out is said in words here; every number is generated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ouroloop.monitors.bench.bench import SIZES
from ouroloop.monitors.bench.cells import Cell, exists, read, slug
from ouroloop.monitors.bench.markdown import percent, table
from ouroloop.monitors.bench.regimes import COLLAPSING, mode_name
from ouroloop.monitors.decision.declaration import GuardedQuantity, QuantityId
from ouroloop.monitors.decision.free import FREE
from ouroloop.monitors.decision.guarded import SCORED
from ouroloop.monitors.decision.modes import REMEDIED_AS
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand

FOLDER = Path("docs/quantities")
RULE = DecisionRule("main")
V4 = "[V4](../validation/index.md#v4-how-soon-collapse-is-seen)"


class Words(NamedTuple):
    """Samples of a block; the score of a block; what the quantity cannot show."""

    block: str
    score: str
    silent: str


Q = QuantityId
WORDS = {
    Q.ACCURACY: Words("1", "right", "Which right answers are left: a model that sharpens gains."),
    Q.DIVERSITY: Words(
        "2",
        "both right, by different strategies",
        "Strategies that a canonicaliser cannot tell apart; wrong ways, however many.",
    ),
    Q.WAYS: Words(
        "8, or as many as both sides have",
        "distinct strategies among the right ones, per sample",
        "Strategies that a canonicaliser cannot tell apart; a loss that more right answers make up"
        " for.",
    ),
    Q.TAIL_ACCURACY: Words(
        "4",
        "any right, of the tail slice",
        "Small losses: a tail of 30 problems x 8 samples is known to three points.",
    ),
    Q.TAIL_DIVERSITY: Words(
        "2",
        "both right, by different strategies, of the tail slice",
        "Most of what happens on few problems: it has the fewest pairs of all.",
    ),
    Q.RARE_STRATEGIES: Words(
        "1",
        "right, by a strategy that was rare at the baseline (picked on half of its samples)",
        "Strategies that the baseline's half did not show once.",
    ),
    Q.OVERCONFIDENCE: Words(
        "8",
        "four samples vote, four say how sure the vote is",
        "Confidence that a model states in words; a vote that is surely right.",
    ),
    Q.SHORTCUT: Words(
        "1",
        "not the wrong answer that grew most (picked on half of both rounds' samples)",
        "A shortcut whose answers differ from problem to problem.",
    ),
    Q.OTHER_FAMILIES: Words("1", "right, in all other families", "Families that are not asked."),
    Q.UNSCORED: Words(
        "1",
        "scored at all, right or wrong, of all families",
        "Why a sample has no verdict. It is guarded because missing verdicts hide wrong answers.",
    ),
    Q.SOLVED: Words(
        "k, the most that both sides have",
        "any right",
        "How often a problem is solved: one right sample of k is enough.",
    ),
    Q.ALIVE: Words(
        "1",
        "right, by the strategy that fell most (picked on half of both sides' samples)",
        "Strategies that held less than 5 % at the baseline.",
    ),
    Q.APART: Words(
        "2",
        "in different response clusters (strategies where there are no clusters)",
        "Whether the answers are any good; differences within a cluster.",
    ),
    Q.CLUSTERS: Words(
        "8, or as many as both sides have",
        "different response clusters, per sample",
        "Whether the answers are any good; differences within a cluster.",
    ),
    Q.CANNED: Words(
        "1",
        "none of the three clusters, openings or whole texts that grew most (picked likewise)",
        "Canned texts of many kinds, each of them seldom.",
    ),
    Q.ALIVE_CLUSTERS: Words(
        "1",
        "the cluster that fell most (picked likewise)",
        "Clusters that held less than 5 % at the baseline.",
    ),
    Q.OPEN: Words(
        "1",
        "mean log-loss per token / (twice the baseline's median), at most 1",
        "A model that is as unsure as ever of worse texts. The mean log-loss is the entropy where"
        " the probe samples at temperature 1; at another it is that loss alone.",
    ),
    Q.TEXTS_OPEN: Words(
        "1 text",
        "the same, along fixed real texts; no sampling noise",
        "What the model writes itself.",
    ),
    Q.ANSWERED: Words("1", "not cut by length, at least one word", "What the words say."),
    Q.LENGTH: Words(
        "1",
        "within the middle 95 % of the baseline's lengths, by family (in tokens, else in words, or"
        " in characters where the texts have no blanks)",
        "Texts of the usual length that say nothing.",
    ),
    Q.APPROVED: Words(
        "1",
        "approved by the frozen judge, each criterion by itself",
        "What the judge cannot see. Scored problems count, too.",
    ),
    Q.JUDGED: Words(
        "1",
        "has every verdict of the judge",
        "Why a verdict is missing. Missing ones would hide what is not approved.",
    ),
}
REST = """\
A score is of scored samples but for the share of unscored ones: a sample without a verdict is
neither right nor wrong. That alone would hide a collapse whose wrong samples lose their verdict
(a grader that times out), so the share of samples that were scored is guarded itself. Its
tolerance is that of pass@1: leaving out a share g of samples, all of them wrong, hides a loss of
pass@1 of at most g.

A quantity that the baseline cannot measure (no gold answers, no strategies, one sample per
problem where pairs are needed) is not guarded, and the decision says why. One for which a *round*
has too few samples per problem is not bet on in that round and keeps the evidence that it has.
One that a round has lost altogether halts the run. The last sentence of a decision names what is
guarded, and what the probe set cannot see.

**The order of the rows changes nothing.** Each problem's samples are sorted by content and then
permuted by a generator that is seeded with a digest of the probe set's content
(`monitors/estimators/order.py`): some quantities pick on one half of the samples and measure on
the other, and rows filed "rejected first" would otherwise be a loss by themselves. Rows that were
copied to look like more samples are named in the decision (`monitors/decision/copies.py`); they
are not left out.
"""


def write(out: Path, folder: Path = FOLDER) -> list[str]:
    """Write all pages and their index; give the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{q.id}.md": page(q, out) for q in (*SCORED, *FREE)}
    pages["index.md"] = index()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(pages)


def index() -> str:
    """The table of all quantities, a link to each."""
    return (
        "# What is guarded\n\n"
        "Written by `python -m ouroloop.monitors.bench.validate table`. HALT bets on a loss beyond"
        " the tolerance, WATCH on one beyond a quarter of it. What the rule does with them and what"
        " it promises: [MONITORS](../../MONITORS.md).\n\n"
        f"Of problems with scored samples:\n\n{overview(SCORED)}\n\n"
        "Of problems of which the baseline has no scored sample ([decision 017]"
        "(../decisions/017-guarded-quantities-for-unscored-text.md); how seldom they alarm and how"
        " soon: [unscored](../validation/unscored.md)):\n\n"
        f"{overview(FREE)}\n\n{REST}"
    )


def overview(declared: tuple[GuardedQuantity, ...]) -> str:
    """A line for each quantity, with a link to its page."""
    lines = [
        (f"[{_name(q)}]({q.id}.md)", WORDS[Q(q.id)].block, WORDS[Q(q.id)].score, _loss(q))
        for q in declared
    ]
    return table(("quantity", "block, samples", "score of a block", "tolerated loss"), lines)


def page(of: GuardedQuantity, out: Path) -> str:
    """One quantity's page."""
    words = WORDS[Q(of.id)]
    lines = [
        f"# {_name(of)}",
        "",
        f"**Score** of a block ({words.block}): {words.score}. The quantity is its mean over"
        " problems, and its loss is measured against the frozen baseline's.",
        "",
        f"**Cannot show:** {words.silent}",
        "",
        table(("", ""), _facts(of)),
        "",
        *_seen(of, out),
        "",
        "[All quantities](index.md); [what is promised](../../MONITORS.md).",
    ]
    return "\n".join(lines) + "\n"


def _name(of: GuardedQuantity) -> str:
    sizes = {Q.TAIL_ACCURACY: str(RULE.pass_k), Q.SOLVED: "k", Q.WAYS: "8", Q.CLUSTERS: "8"}
    size = sizes.get(Q(of.id), "1")
    return of.label.replace("{size}", size).replace(" ({name})", "")


def _loss(of: GuardedQuantity) -> str:
    return f"{of.default:.0%} of the baseline's" if of.relative else f"{of.default:g}"


def _facts(of: GuardedQuantity) -> Iterator[tuple[str, str]]:
    yield "recipe key", f"`monitors.{of.tolerance}`, default {of.default:g}"
    yield "HALT bets on a loss beyond", _loss(of)
    share = RULE.watch_share * of.default
    unit = " of the baseline's" if of.relative else ""
    yield "WATCH beyond", (f"{share:.1%}{unit}" if of.relative else f"{share:g}")
    yield "reading", _reading(of)
    even = "an even share of what the others leave"
    yield "share of the evidence", even if of.share is None else f"{of.share:.0%}"
    if of.ceiling is not None:
        yield (
            "counts from",
            f"{of.shown[0] + of.shown[1] * of.ceiling:g}, if the baseline is better",
        )
    yield "remedy when it speaks", f"that of {mode_name(REMEDIED_AS[of.id])}"


def _reading(of: GuardedQuantity) -> str:
    """Where its values stand."""
    # No metric reads the other quantities of unscored text: a decision alone has their values.
    if of in FREE and of.id != Q.APPROVED:
        return f"none; the values stand in the decision's `guards`, `quantity` `{of.id}`"
    # The whole id, "main" standing for the practised family: a statistic alone is several numbers.
    return f"`{Estimand(of.statistic, of.family, of.slice, of.samples).id}`"


def _seen(of: GuardedQuantity, out: Path) -> Iterator[str]:
    """Which simulated collapses it warned of."""
    if of not in SCORED:
        yield f"It has no part in {V4}, whose runs are all scored. How it does on other text:"
        yield "[unscored](../validation/unscored.md)."
        return
    lines = []
    for size in SIZES:
        for name in COLLAPSING:
            if not exists(cell := Cell(out / "v4.csv", f"{size}/{slug(name)}")):
                continue
            rows = [r for r in read(cell) if int(r["watch"]) >= int(r["onset"])]
            drove = Counter(r["watch_driver"] for r in rows)
            own = sum(n for driver, n in drove.items() if _is_of(of, driver))
            if own:
                lines.append((size, name, f"{own} of {len(rows)}", percent(own, len(rows))))
    if not lines:
        yield f"It brought the most evidence in no simulated warning of {V4}."
        return
    yield f"Simulated warnings ({V4}) to which it brought the most evidence:"
    yield ""
    yield table(("N x k", "regime", "warnings", "share"), lines)


def _is_of(of: GuardedQuantity, driver: str) -> bool:
    """Whether the name of a driver, its size filled in, is this quantity's."""
    head, _, tail = of.label.partition("{size}")
    fits = driver.startswith(head) and driver.endswith(tail)
    return fits and (driver == head or driver.removeprefix(head).removesuffix(tail).isdigit())
