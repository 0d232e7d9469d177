"""Words that a report explains at its end, after the explanations of its measures."""

from ouroloop.monitors.names import Action

TERMS = (
    (
        "Round 0",
        "The starting model, measured before any training: later rounds are compared with it.",
    ),
    ("Held-out", "Problems that training never sees."),
    (
        "[low, high]",
        "95 % interval from within the round; problems, not samples, are the units drawn.",
    ),
    (
        "Undefined",
        "The number could not be computed; the reason stands beside it. It never means zero.",
    ),
    ("Kept", "The sample passed every rejection filter, so the model may be trained on it."),
    (
        "near/12, new/7",
        (
            "Response clusters of free text: near what the prompt was usually answered with in"
            " round 0, or away from it; the number tells clusters apart."
        ),
    ),
    (
        "(+g2+g1)",
        (
            "A strategy named by its calculation: g1 is the first number of the question, g2 the"
            " second, c7 the constant 7."
        ),
    ),
    (
        "Reliability",
        (
            "If 70 % of samples agree on an answer, a calibrated model is right in 70 % of such"
            " cases: its dots lie on the dashed line."
        ),
    ),
    (
        "Decision",
        (
            f"{Action.CONTINUE}; {Action.REINJECT}: mix demonstrations and rare strategies back in,"
            " and do what the kind of collapse calls for (a higher temperature, caps on what"
            f" repeats, more problems of the tail); {Action.ROLLBACK}: return to the best model;"
            f" {Action.HALT}: stop."
        ),
    ),
    (
        "Drift, sharpening, shortcut takeover, tail narrowing, canned response",
        (
            "Kinds of collapse: errors pile up; one way of solving crowds out the others; one cheap"
            " answer spreads over problems; only easy problems stay solved; a few texts take the"
            " place of unlike answers."
        ),
    ),
    (
        "Guarded, unguarded",
        (
            "In a guarded run decisions are carried out; in an unguarded one they are only written"
            " down."
        ),
    ),
)
