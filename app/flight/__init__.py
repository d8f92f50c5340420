"""What happened in a run, frame by frame, and how is that repeated?"""

from app.flight.chrome import chrome_trace
from app.flight.decisions import DecidedSource
from app.flight.recorder import FlightRecorder
from app.flight.trace_file import Trace, TraceWriter, read_trace

__all__ = [
    "DecidedSource",
    "FlightRecorder",
    "Trace",
    "TraceWriter",
    "chrome_trace",
    "read_trace",
]
