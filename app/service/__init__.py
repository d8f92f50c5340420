"""What does it take to run for months under a supervisor?"""

from app.service.canary import SCORE, KnownAnswer, KnownPicture, answers
from app.service.journal import configure_logging, journal_line
from app.service.notify import Notifier
from app.service.reload import Reload, plan_reload
from app.service.supervised import Supervised

__all__ = [
    "SCORE",
    "KnownAnswer",
    "KnownPicture",
    "Notifier",
    "Reload",
    "Supervised",
    "answers",
    "configure_logging",
    "journal_line",
    "plan_reload",
]
