"""How well methods find the truth on Duo pictures, next to controls that know nothing."""

from camkit_playground.leaderboard.board import Cell, Leaderboard, Row
from camkit_playground.leaderboard.judge import check, leaderboard
from camkit_playground.leaderboard.questions import Questions, questions
from camkit_playground.leaderboard.words import markdown, reasons_table, record, table

__all__ = [
    "Cell",
    "Leaderboard",
    "Questions",
    "Row",
    "check",
    "leaderboard",
    "markdown",
    "questions",
    "reasons_table",
    "record",
    "table",
]
