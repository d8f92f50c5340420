"""Every English text of the window, in one place."""

from __future__ import annotations

TITLE = "Kestrel"
UNAVAILABLE = "unavailable"

# view
WAITING = "Opening the source and the model…"
OPENING = "Opening {label}…"
NO_ENGINE = "Preparing the model…"
VIEW_NAME = "Video with detections"
SAMPLE_HINT = (
    "This is the bundled clip. To see your own: choose a camera under “Source”, or drop a video, "
    "a picture or a folder here. F1 shows all keys."
)

# banners
LOST = "The picture is lost: {error}\nNo picture since {clock} ({seconds} s). Reconnecting…"
LOST_NEVER = "{error}\nTrying since {clock} ({seconds} s)…"
SILENT = "{label} has given no frames since {clock} ({seconds} s). Waiting for it."
TRY_NOW = "Try now"
OPEN_AGAIN = "Open again"
STUCK = (
    "Frames come, but no results since {clock} ({seconds} s): the model or an output is not "
    "keeping up. The window goes on as soon as it answers."
)
FAILURE = "Nothing is being detected: {error}\nChoose another model or engine above, or try again."
BUILDING = "Preparing {what}… {seconds} s"
BUILDING_BESIDE = "Preparing {what}… {seconds} s. {now} goes on until it is ready."
CANCEL = "Cancel"
DISMISS = "Dismiss"
DEFAULT_MODEL = "the default model"

# status line
FPS = "FPS"
AGE = "Age p50 / p95"
DROPPED = "Dropped"
SIZE = "Frame"
ENGINE = "Engine"
POWER = "Power"
POWER_COVERS = "Power of: {covers}; idle power included"
RECORDING = "● REC"
PAUSED = "Paused"
NO_FIGURE = "–"

# menus and actions: text, shortcuts, tooltip
ACTIONS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "open_file": ("&Open file…", ("Ctrl+O", "O"), "Open a video or a picture"),
    "open_folder": ("Open &folder…", ("Ctrl+Shift+O",), "Open a folder of pictures"),
    "open_url": ("Open &URL…", ("Ctrl+U", "U"), "Open a network stream"),
    "snapshot": (
        "&Snapshot",
        ("S", "Ctrl+S"),
        "Save this frame with and without boxes (PNG), and its detections (JSON)",
    ),
    "record": ("&Record", ("R", "Ctrl+R"), "Record what is shown, boxes included (MP4)"),
    "folder": ("Save &to…", (), "Choose the folder for snapshots and recordings"),
    "quit": ("&Quit", ("Q", "Ctrl+Q"), "Close the window and end the run"),
    "pause": ("&Pause", ("P",), "Hold the picture, or go on (Space in the picture)"),
    "step": ("&Single step", (".",), "Pause, and show one frame more"),
    "back": ("5 s &back", ("Shift+Left",), "Go back in a recording"),
    "forward": ("5 s &forward", ("Shift+Right",), "Go forward in a recording"),
    "restart": ("From the &beginning", ("Home",), "Play a recording again; reconnect a camera"),
    "fit": ("&Fit", ("F", "Ctrl+0"), "Show the whole frame (double click changes to 1:1)"),
    "one_to_one": ("&1:1", ("1", "Ctrl+1"), "One pixel of the screen for one of the frame"),
    "zoom_in": ("Zoom &in", ("+", "=", "Ctrl++"), "Larger (mouse wheel)"),
    "zoom_out": ("Zoom &out", ("-", "Ctrl+-"), "Smaller (mouse wheel)"),
    "full_screen": ("Full &screen", ("F11",), "Fill the screen, or back (Esc)"),
    "boxes": ("&Boxes", ("B",), "Draw boxes"),
    "labels": ("&Labels", ("L",), "Draw the names of the classes"),
    "scores": ("S&cores", ("C",), "Draw how sure the model is"),
    "keypoints": ("&Keypoints", ("K",), "Draw keypoints, where the model has them"),
    "hud": ("Status &line", ("H",), "Show FPS, age and drops below the picture"),
    "controls": ("&Controls", ("F9",), "Thresholds, classes and what is drawn"),
    "instruments": ("&Instruments", ("F10", "I"), "Plots of times and loads, and what is seen now"),
    "reset": ("&Reset all settings", (), "Forget everything that this window remembers"),
    "shortcuts": ("&Keys", ("F1",), "Show all keys"),
    "about": ("&About Kestrel", (), "Version and licence"),
}
MENU_FILE, MENU_VIEW, MENU_PLAY, MENU_HELP = "&File", "&View", "&Play", "&Help"
MENU_THEME = "&Theme"
THEMES = {"system": "As the &system", "dark": "&Dark", "light": "&Light"}
KEYS_TITLE = "Keys"
KEYS_VIEW = (
    ("Space", "Pause, or go on (in the picture)"),
    ("Arrows", "Move a zoomed frame; else, in a recording, 1 s back or forward"),
    ("Tab", "From control to control"),
    ("Esc", "Leave full screen, dismiss a message, close"),
)
ABOUT = (
    "<b>Kestrel {version}</b><br>Real-time object detection for edge devices.<br>"
    "Apache-2.0. Nothing leaves this machine unless you ask for it."
)
RESET_ASK = "Forget all settings of this window, recent sources included?"
TOOLBAR = "Tools"
MORE_TOOLS = "More tools"

GOT_IT = "Got it"

# pickers
SOURCE = "Source"
SOURCE_NAME = "Source"
SOURCE_TIP = "Choose a camera, file, folder, stream or the bundled clip"
MODEL_NAME = "Model"
MODEL_LABEL = "&Model"
MODEL_TIP = "Choose the model; the running one goes on until the new one is ready"
ENGINE_NAME = "Engine"
ENGINE_LABEL = "&Engine"
ENGINE_TIP = "Choose what runs the model; if it cannot, the running one stays"
CAMERAS = "Cameras"
NO_CAMERAS = "No camera found"
AS_IT_IS = "As the camera is set"
SAMPLE = "Bundled clip"
PATTERN = "Test pattern"
RECENT = "Recent"
LOOK_AGAIN = "Look for cameras again"
URL_ASK = "Address of the stream (rtsp://… or http://…):"
URL_TITLE = "Open URL"
FILE_TITLE = "Open a video or a picture"
FOLDER_TITLE = "Open a folder of pictures"
SAVE_TITLE = "Folder for snapshots and recordings"
FILE_FILTER = (
    "Videos and pictures (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png "
    "*.bmp *.webp *.tif *.tiff);;All files (*)"
)

# controls dock
CONTROLS = "Controls"
SCORE = "&Lowest score"
SCORE_TIP = "What the model is less sure of is not reported"
IOU = "Ove&rlap allowed"
IOU_TIP = "Of two boxes of a class that overlap more than this, the weaker goes (IoU of NMS)"
DEFAULTS = "Model's &defaults"
DEFAULTS_TIP = "Back to the thresholds that the model comes with"
CLASSES = "Classes"
CLASSES_TIP = (
    "Only ticked classes are drawn, recorded and saved from here; --json still gets all of them"
)
ALL, NONE = "&All", "&None"
ALL_TIP, NONE_TIP = "Tick every class", "Tick no class"
FIND_CLASS = "Find a class"
DRAWN = "Drawn"

# timeline
TIMELINE_NAME = "Position in the recording"
TIMELINE_TIP = "Drag to move in the recording"
TIMELINE_FIXED = "This source cannot be moved in"

# instruments
INSTRUMENTS = "Instruments"
NO_PYQTGRAPH = "The plots need pyqtgraph: pip install 'pyqtgraph>=0.13.7,<0.15'"
IN_PICTURE = "In the picture now"
TABLE_HEAD = ("Class", "Count", "Best")
TABLE_NAME = "What is in the picture now"
PLOT_STAGES = "Stages (ms)"
PLOT_AGE = "Age (ms)"
PLOT_FPS = "FPS and drops / s"
PLOT_LOAD = "Load (%)"
PLOT_MEMORY = "Memory (MB)"
PLOT_HEAT = "Temperature and power"
SERIES = {
    "preprocess": "pre",
    "postprocess": "post",
    "age_p50": "p50",
    "age_p95": "p95",
    "fps": "FPS",
    "capture_fps": "camera",
    "drops": "drops / s",
    "cpu": "CPU",
    "gpu": "GPU",
    "memory": "process",
    "gpu_memory": "GPU",
    "temperature": "°C",
    "power": "W",
}

# notices
NOTHING_TO_SAVE = "There is no frame to save yet"
