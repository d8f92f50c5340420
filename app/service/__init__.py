"""What does it take to run for months under a supervisor?"""

from app.service.canary import KnownAnswer, KnownPicture
from app.service.journal import configure_logging, journal_line
from app.service.notify import Notifier
from app.service.reload import Reload, plan_reload
from app.service.supervised import Supervised

__all__ = [
    "KnownAnswer",
    "KnownPicture",
    "Notifier",
    "Reload",
    "Supervised",
    "configure_logging",
    "journal_line",
    "plan_reload",
]
