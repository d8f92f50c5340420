"""Every English text of the window, in one place, and their translation as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

TITLE = "Kestrel"
UNAVAILABLE = "unavailable"

# view
WAITING = "Opening the source and the model…"
OPENING = "Opening {label}…"
NO_ENGINE = "Preparing the model…"
VIEW_NAME = "Video with detections"
SAMPLE_HINT = (
    "This is the sample clip. To see your own video, choose a camera under “Source”, or drop a "
    "video, an image or a folder here. F1 shows the keyboard shortcuts."
)

# banners
LOST = "Connection lost: {error}\nNo frames since {clock} ({seconds} s). Reconnecting…"
OFFLINE = "{error}\nOffline since {clock} ({seconds} s). Retrying…"
SILENT = "No frames from {label} since {clock} ({seconds} s). Waiting for the next one…"
TRY_NOW = "Retry"
OPEN_AGAIN = "Reopen"
PLAY_CLIP = "Play sample clip"
SHOW_IN_FOLDER = "Show in folder"
CLASS_COUNT, TO_FETCH = "{count} classes", "to be downloaded"
REFUSED = "Cannot run here: {why}"
STUCK = (
    "Frames arrive, but there have been no results since {clock} ({seconds} s): the model or an "
    "output is too slow or does not respond."
)
FAILURE = "Detection stopped: {error}\nChoose another model or engine above, or retry."
BUILDING = "Preparing {what}… {seconds} s"
BUILDING_BESIDE = "Preparing {what}… {seconds} s. {now} keeps running until it is ready."
CANCEL = "Cancel"
DISMISS = "Dismiss"
DEFAULT_MODEL = "the default model"
GOT_IT = "OK"
NOTHING_TO_SAVE = "There is no frame to save yet"

# status bar
FPS = "FPS"
AGE = "Age p50 / p95"
DROPPED = "Dropped"
SIZE = "Size"
ENGINE = "Engine"
POWER = "Power"
POWER_COVERS = "Power draw of: {covers}; idle power included"
RECORDING = "● REC"
PAUSED = "Paused"
NO_FIGURE = "–"
PHASES = {  # of a source among several that does not play
    "opening": "opening",
    "reconnecting": "connection lost",
    "offline": "offline",
    "stalled": "no frames",
    "failed": "failed",
    "ended": "ended",
}

# menus and actions: text, shortcuts, tooltip
ACTIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "open_file": ("&Open file…", ("Ctrl+O", "O"), "Open a video or an image"),
    "open_folder": ("Open &folder…", ("Ctrl+Shift+O",), "Open a folder of images"),
    "open_url": ("Open &URL…", ("Ctrl+U", "U"), "Open a network stream"),
    "snapshot": (
        "&Snapshot",
        ("S", "Ctrl+S"),
        "Save this frame with and without boxes (PNG), and its detections (JSON)",
    ),
    "record": ("&Record", ("R", "Ctrl+R"), "Record the video with its boxes (MP4)"),
    "folder": ("Save &location…", (), "Choose the folder for snapshots and recordings"),
    "quit": ("&Quit", ("Q", "Ctrl+Q"), "Close the window and stop"),
    "pause": ("&Pause", ("P",), "Pause or resume (Space while the video has the focus)"),
    "pause_all": ("Pause &all", ("Shift+P",), "Pause or resume all sources"),
    "slower": ("Slo&wer", ("[",), "Play a recording more slowly, down to a quarter of its speed"),
    "faster": ("Fas&ter", ("]",), "Play a recording faster, up to four times its speed"),
    "loop": ("&Loop", ("Shift+L",), "Begin a recording again at its end"),
    "step": ("&Step one frame", (".",), "Pause, and show the next frame"),
    "step_back": ("Step back", (",",), "Pause, and show the frame before (recordings)"),
    "back": ("5 s &back", ("Shift+Left",), "Skip back in a recording, or by five pictures"),
    "forward": ("5 s &forward", ("Shift+Right",), "Skip forward, or by five pictures"),
    "restart": ("&Restart", ("Home",), "Play a recording from the start; reconnect a camera"),
    "fit": ("&Fit to window", ("F", "Ctrl+0"), "Show the whole frame (double-click for 100 %)"),
    "one_to_one": ("&Actual size", ("1", "Ctrl+1"), "100 %: one screen pixel per frame pixel"),
    "zoom_in": ("Zoom &in", ("+", "=", "Ctrl++"), "Zoom in (mouse wheel)"),
    "zoom_out": ("Zoom &out", ("-", "Ctrl+-"), "Zoom out (mouse wheel)"),
    "grid": ("&All sources", ("G",), "Show all sources, or the selected one alone (double-click)"),
    "next": ("Ne&xt source", ("Ctrl+PgDown",), "Select the next source"),
    "previous": ("Pre&vious source", ("Ctrl+PgUp",), "Select the source before"),
    "full_screen": ("Full &screen", ("F11",), "Enter or leave full screen (Esc)"),
    "boxes": ("&Boxes", ("B",), "Show bounding boxes"),
    "labels": ("&Labels", ("L",), "Show class names"),
    "scores": ("S&cores", ("C",), "Show confidence scores"),
    "keypoints": ("&Keypoints", ("K",), "Show keypoints, if the model has them"),
    "hud": ("Stat&us bar", ("H",), "Show frame rate, frame age and drops below the video"),
    "controls": ("Co&ntrols", ("F9",), "Thresholds, classes and what is shown"),
    "zones": ("&Zones and lines", ("Z",), "Draw and edit zones and lines with the mouse"),
    "instruments": ("S&tatistics", ("F10", "I"), "Plots of times and load, and object counts"),
    "reset": ("&Reset all settings", (), "Reset everything that this window remembers"),
    "shortcuts": ("&Keyboard shortcuts", ("F1",), "Show all keyboard shortcuts"),
    "about": ("&About Kestrel", (), "Version and licence"),
}
MENU_FILE, MENU_VIEW, MENU_PLAY, MENU_HELP = "&File", "&View", "&Playback", "&Help"
MENU_SOURCES = "&Sources"
MENU_THEME, MENU_LANGUAGE = "The&me", "Lan&guage"
SYSTEM_LANGUAGE = "&System default"
THEMES = {"system": "&System default", "dark": "&Dark", "light": "&Light"}
KEYS_TITLE = "Keyboard shortcuts"
KEYS_VIEW = (
    ("Space", "Pause, resume, play again at the end; among pictures a slideshow"),
    ("Arrows", "Pan a zoomed frame; otherwise skip 1 s in a recording, or to the next picture"),
    ("Alt+1 … Alt+9", "Show one of several sources alone"),
    ("Tab", "Move between controls"),
    ("Esc", "Leave full screen, dismiss a message; it never ends the run"),
)
ABOUT = (
    "<b>Kestrel {version}</b><br>Real-time object detection for edge devices.<br>"
    "Apache-2.0. Nothing leaves this machine unless you ask for it.<br>"
    "German, Spanish and Chinese are machine translations."
)
END_OUTPUTS = "Outputs of this run are being written or sent. Stop them and close the window?"
END_RECORDING = "A recording is running. Finish it and close the window?"
RESET_ASK = "Reset all settings of this window, including recent sources?"
TOOLBAR = "Toolbar"
MORE_TOOLS = "More tools"

# pickers
SOURCE = "Source"
SOURCE_TIP = "Choose a camera, file, folder, stream or the sample clip"
MODEL = "Model"
MODEL_TIP = "Choose the model; the current one keeps running until the new one is ready"
ENGINE_TIP = "Choose the inference engine; if it is not available, the current one stays"
CAMERAS = "Cameras"
NO_CAMERAS = "No camera found"
AS_IT_IS = "Camera default"
SAMPLE = "Sample clip"
PATTERN = "Test pattern"
RECENT = "Recent"
LOOK_AGAIN = "Refresh cameras"
URL_ASK = "Stream URL (rtsp://… or http://…):"
URL_TITLE = "Open URL"
FILE_TITLE = "Open a video or an image"
FOLDER_TITLE = "Open a folder of images"
SAVE_TITLE = "Folder for snapshots and recordings"
FILE_FILTER = (
    "Videos and images (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png "
    "*.bmp *.webp *.tif *.tiff);;All files (*)"
)

# controls dock
SCORE = "&Confidence threshold"
SCORE_TIP = "Detections with a lower score are not reported"
IOU = "Ove&rlap (NMS IoU)"
IOU_TIP = "Of two boxes of one class that overlap more than this, the lower score is dropped"
DEFAULTS = "Reset to &defaults"
DEFAULTS_TIP = "Use the thresholds that the model comes with"
CLASSES = "Classes"
CLASSES_TIP = (
    "Only selected classes are shown, recorded and saved by this window; --json gets all of them"
)
ALL, NONE = "&All", "&None"
ALL_TIP, NONE_TIP = "Select all classes", "Select no class"
FIND_CLASS = "Filter classes"
DRAWN = "Show"
FILTERS = "Filters"
FILTERS_TIP = "What passes here reaches all outputs; tracks and events follow it"
_SIZE_TIP = "Width and height in pixels, or in % of the frame's"
FILTER_ROWS = {  # key: label, what is written while it is empty, tip
    "classes": ("Only classes", "all, or person,car", "Report no others"),
    "class_scores": (
        "Class thresholds",
        "person=0.5,car=0.3",
        "Lowest score of single classes, in place of the confidence threshold",
    ),
    "min_box": ("Smallest box", "24, 24x48 or 5%", _SIZE_TIP),
    "max_box": ("Largest box", "90%", _SIZE_TIP),
}
MOST_BOXES, MOST_BOXES_TIP = "Most boxes", "Of a frame the strongest so many are reported"
AGNOSTIC = "One box per object"
AGNOSTIC_TIP = "Of boxes that overlap, whatever their classes, only the strongest is reported"

# zones dock
ZONES = "Zones and lines"
DRAW_ZONE, DRAW_LINE = "Draw &zone", "Draw l&ine"
DRAW_ZONE_TIP = "Draw a polygon point by point"
DRAW_LINE_TIP = "Draw a line that objects cross"
DRAWING_ZONE = "Click the corners. The first corner again, or a double-click, closes the zone."
DRAWING_LINE = (
    "Click where the line begins and where it ends. The arrow will point to the side that is “in”."
)
EDITING = "Drag a point; drag the middle of an edge to add one; double-click a point to remove it."
NOTHING_DRAWN = "Draw a zone or a line, or click one to change it. Changes take effect at once."
ZONE_NAME = "Na&me"
NAME_TAKEN = "“{name}” is taken or empty; choose another name"
ZONE_COLOUR, ZONE_COLOUR_TIP = "Co&lour…", "Choose the colour it is drawn in"
TURN_LINE, TURN_LINE_TIP = "Swap &in and out", "Let the line point the other way"
DELETE_ZONE, DELETE_ZONE_TIP = "&Delete", "Delete the selected zone or line (Delete)"
UNDO, UNDO_TIP = "&Undo", "Undo the last change (Ctrl+Z)"
REDO, REDO_TIP = "&Redo", "Redo it (Ctrl+Shift+Z)"
SAVE_ZONES = "Sa&ve"
SAVE_ZONES_TIP = "Write zones and lines into the file of --config, or choose one"
SAVE_ZONES_AS, SAVE_ZONES_AS_TIP = "Save &as…", "Write zones and lines into another TOML file"
SAVE_ZONES_TITLE = "File for zones and lines"

# timeline
TIMELINE_NAME = "Position in the recording"
TIMELINE_TIP = "Drag to seek"
TIMELINE_FIXED = "This source does not support seeking"
SPEED_TIP = "Playback speed"
LOOP, LOOP_TIP = "Loop", "Begin again at the end"

# statistics dock
NO_PYQTGRAPH = "The plots need pyqtgraph: pip install 'pyqtgraph>=0.13.7,<0.15'"
IN_PICTURE = "Current frame"
TABLE_HEAD = ("Class", "Count", "Best")
OBJECTS_HEAD = ("Object", "In view", "Zones")
PLOTS = {
    "stages": "Stage times (ms)",
    "age": "Frame age (ms)",
    "fps": "Frame rate and drops (1/s)",
    "load": "Load (%)",
    "memory": "Memory (MB)",
    "heat": "Temperature and power",
}
SPANS = ("Last minute", "Whole run")
SPAN_TIP = "Time that the plots show"
SERIES = {
    "preprocess": "pre",
    "postprocess": "post",
    "age_p50": "p50",
    "age_p95": "p95",
    "fps": "FPS",
    "capture_fps": "capture",
    "drops": "drops",
    "cpu": "CPU",
    "gpu": "GPU",
    "memory": "process",
    "gpu_memory": "GPU",
    "temperature": "°C",
    "power": "W",
}


# --- translation ----------------------------------------------------------------------------------

_ENGLISH = {name: value for name, value in globals().items() if name.isupper() and name[0] != "_"}
_AS_THEY_ARE = {TITLE, *(key for _, keys, _ in ACTIONS.values() for key in keys)}


def _is_said(text: str) -> bool:
    return text not in _AS_THEY_ARE and any(map(str.isalpha, text))


def _told(value: Any, tr: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return tr(value) if _is_said(value) else value
    if isinstance(value, dict):
        return {key: _told(each, tr) for key, each in value.items()}
    return tuple(_told(each, tr) for each in value)


def english() -> Iterator[str]:
    """Every text that a catalogue translates, in the order of this file."""
    found: dict[str, None] = {}

    def note(text: str) -> str:
        found[text] = None
        return text

    _told(_ENGLISH, note)
    yield from found


def translate(tr: Callable[[str], str]) -> None:
    """Replace all texts of this module by their translations; windows that are open keep theirs."""
    globals().update(_told(_ENGLISH, tr))
