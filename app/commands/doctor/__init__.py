"""`doctor`: what has this machine, what is wrong with it, and what cures that?"""

from .report import run_doctor

__all__ = ["run_doctor"]
