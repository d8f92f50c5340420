<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="de" sourcelanguage="en">
<extra-origin>machine translation; unfinished: not read by a speaker yet</extra-origin>
<context>
<name>Window</name>
<message><source>unavailable</source>
<translation type="unfinished">nicht verfügbar</translation></message>
<message><source>Opening the source and the model…</source>
<translation type="unfinished">Quelle und Modell werden geöffnet …</translation></message>
<message><source>Opening {label}…</source>
<translation type="unfinished">{label} wird geöffnet …</translation></message>
<message><source>Preparing the model…</source>
<translation type="unfinished">Das Modell wird vorbereitet …</translation></message>
<message><source>Video with detections</source>
<translation type="unfinished">Video mit Detektionen</translation></message>
<message><source>This is the sample clip. To see your own video, choose a camera under “Source”, or drop a video, an image or a folder here. F1 shows the keyboard shortcuts.</source>
<translation type="unfinished">Dies ist der Beispielclip. Für ein eigenes Video unter „Quelle“ eine Kamera wählen, oder ein Video, ein Bild oder einen Ordner hierher ziehen. F1 zeigt die Tastenkürzel.</translation></message>
<message><source>Connection lost: {error}
No frames since {clock} ({seconds} s). Reconnecting…</source>
<translation type="unfinished">Verbindung verloren: {error}
Keine Bilder seit {clock} ({seconds} s). Neuer Versuch …</translation></message>
<message><source>{error}
Offline since {clock} ({seconds} s). Retrying…</source>
<translation type="unfinished">{error}
Nicht erreichbar seit {clock} ({seconds} s). Neuer Versuch …</translation></message>
<message><source>No frames from {label} since {clock} ({seconds} s). Waiting for the next one…</source>
<translation type="unfinished">Keine Bilder von {label} seit {clock} ({seconds} s). Warten auf das nächste …</translation></message>
<message><source>Retry</source>
<translation type="unfinished">Erneut versuchen</translation></message>
<message><source>Reopen</source>
<translation type="unfinished">Neu öffnen</translation></message>
<message><source>Play sample clip</source>
<translation type="unfinished">Beispielclip abspielen</translation></message>
<message><source>Show in folder</source>
<translation type="unfinished">Im Ordner zeigen</translation></message>
<message><source>{count} classes</source>
<translation type="unfinished">{count} Klassen</translation></message>
<message><source>to be downloaded</source>
<translation type="unfinished">muss heruntergeladen werden</translation></message>
<message><source>Cannot run here: {why}</source>
<translation type="unfinished">Läuft hier nicht: {why}</translation></message>
<message><source>Frames arrive, but there have been no results since {clock} ({seconds} s): the model or an output is too slow or does not respond.</source>
<translation type="unfinished">Bilder kommen an, aber seit {clock} ({seconds} s) gibt es keine Ergebnisse: Das Modell oder eine Ausgabe ist zu langsam oder antwortet nicht.</translation></message>
<message><source>Detection stopped: {error}
Choose another model or engine above, or retry.</source>
<translation type="unfinished">Detektion angehalten: {error}
Oben ein anderes Modell oder eine andere Engine wählen, oder erneut versuchen.</translation></message>
<message><source>Preparing {what}… {seconds} s</source>
<translation type="unfinished">{what} wird vorbereitet … {seconds} s</translation></message>
<message><source>Preparing {what}… {seconds} s. {now} keeps running until it is ready.</source>
<translation type="unfinished">{what} wird vorbereitet … {seconds} s. Bis dahin läuft {now} weiter.</translation></message>
<message><source>Cancel</source>
<translation type="unfinished">Abbrechen</translation></message>
<message><source>Dismiss</source>
<translation type="unfinished">Schließen</translation></message>
<message><source>the default model</source>
<translation type="unfinished">das Standardmodell</translation></message>
<message><source>OK</source>
<translation type="unfinished">OK</translation></message>
<message><source>There is no frame to save yet</source>
<translation type="unfinished">Es gibt noch kein Bild zu speichern</translation></message>
<message><source>FPS</source>
<translation type="unfinished">FPS</translation></message>
<message><source>Age p50 / p95</source>
<translation type="unfinished">Alter p50 / p95</translation></message>
<message><source>Dropped</source>
<translation type="unfinished">Verworfen</translation></message>
<message><source>Size</source>
<translation type="unfinished">Größe</translation></message>
<message><source>Engine</source>
<translation type="unfinished">Engine</translation></message>
<message><source>Power</source>
<translation type="unfinished">Leistung</translation></message>
<message><source>Power draw of: {covers}; idle power included</source>
<translation type="unfinished">Leistungsaufnahme von: {covers}; Leerlauf eingeschlossen</translation></message>
<message><source>● REC</source>
<translation type="unfinished">● AUFN</translation></message>
<message><source>Paused</source>
<translation type="unfinished">Pause</translation></message>
<message><source>opening</source>
<translation type="unfinished">wird geöffnet</translation></message>
<message><source>connection lost</source>
<translation type="unfinished">Verbindung verloren</translation></message>
<message><source>offline</source>
<translation type="unfinished">nicht erreichbar</translation></message>
<message><source>no frames</source>
<translation type="unfinished">keine Bilder</translation></message>
<message><source>failed</source>
<translation type="unfinished">fehlgeschlagen</translation></message>
<message><source>ended</source>
<translation type="unfinished">zu Ende</translation></message>
<message><source>&amp;Open file…</source>
<translation type="unfinished">&amp;Datei öffnen …</translation></message>
<message><source>Open a video or an image</source>
<translation type="unfinished">Ein Video oder ein Bild öffnen</translation></message>
<message><source>Open &amp;folder…</source>
<translation type="unfinished">&amp;Ordner öffnen …</translation></message>
<message><source>Open a folder of images</source>
<translation type="unfinished">Einen Ordner mit Bildern öffnen</translation></message>
<message><source>Open &amp;URL…</source>
<translation type="unfinished">&amp;URL öffnen …</translation></message>
<message><source>Open a network stream</source>
<translation type="unfinished">Einen Netzwerkstrom öffnen</translation></message>
<message><source>&amp;Snapshot</source>
<translation type="unfinished">&amp;Schnappschuss</translation></message>
<message><source>Save this frame with and without boxes (PNG), and its detections (JSON)</source>
<translation type="unfinished">Dieses Bild mit und ohne Rahmen (PNG) und seine Detektionen (JSON) speichern</translation></message>
<message><source>&amp;Record</source>
<translation type="unfinished">Aufneh&amp;men</translation></message>
<message><source>Record the video with its boxes (MP4)</source>
<translation type="unfinished">Das Video mit seinen Rahmen aufnehmen (MP4)</translation></message>
<message><source>Save &amp;location…</source>
<translation type="unfinished">S&amp;peicherort …</translation></message>
<message><source>Choose the folder for snapshots and recordings</source>
<translation type="unfinished">Den Ordner für Schnappschüsse und Aufnahmen wählen</translation></message>
<message><source>&amp;Quit</source>
<translation type="unfinished">&amp;Beenden</translation></message>
<message><source>Close the window and stop</source>
<translation type="unfinished">Das Fenster schließen und anhalten</translation></message>
<message><source>&amp;Pause</source>
<translation type="unfinished">&amp;Pause</translation></message>
<message><source>Pause or resume (Space while the video has the focus)</source>
<translation type="unfinished">Anhalten oder fortsetzen (Leertaste, wenn das Video den Fokus hat)</translation></message>
<message><source>Pause &amp;all</source>
<translation type="unfinished">&amp;Alle anhalten</translation></message>
<message><source>Pause or resume all sources</source>
<translation type="unfinished">Alle Quellen anhalten oder fortsetzen</translation></message>
<message><source>Slo&amp;wer</source>
<translation type="unfinished">&amp;Langsamer</translation></message>
<message><source>Play a recording more slowly, down to a quarter of its speed</source>
<translation type="unfinished">Eine Aufnahme langsamer abspielen, bis zu einem Viertel ihres Tempos</translation></message>
<message><source>Fas&amp;ter</source>
<translation type="unfinished">S&amp;chneller</translation></message>
<message><source>Play a recording faster, up to four times its speed</source>
<translation type="unfinished">Eine Aufnahme schneller abspielen, bis zum Vierfachen ihres Tempos</translation></message>
<message><source>&amp;Loop</source>
<translation type="unfinished">&amp;Wiederholen</translation></message>
<message><source>Begin a recording again at its end</source>
<translation type="unfinished">Eine Aufnahme am Ende von vorn beginnen</translation></message>
<message><source>&amp;Step one frame</source>
<translation type="unfinished">&amp;Ein Bild weiter</translation></message>
<message><source>Pause, and show the next frame</source>
<translation type="unfinished">Anhalten und das nächste Bild zeigen</translation></message>
<message><source>Step back</source>
<translation type="unfinished">Ein Bild &amp;zurück</translation></message>
<message><source>Pause, and show the frame before (recordings)</source>
<translation type="unfinished">Anhalten und das Bild davor zeigen (Aufnahmen)</translation></message>
<message><source>5 s &amp;back</source>
<translation type="unfinished">5 s zu&amp;rück</translation></message>
<message><source>Skip back in a recording, or by five pictures</source>
<translation type="unfinished">In einer Aufnahme zurückspringen, oder um fünf Bilder</translation></message>
<message><source>5 s &amp;forward</source>
<translation type="unfinished">5 s &amp;vor</translation></message>
<message><source>Skip forward, or by five pictures</source>
<translation type="unfinished">Vorspringen, oder um fünf Bilder</translation></message>
<message><source>&amp;Restart</source>
<translation type="unfinished">Von vor&amp;n</translation></message>
<message><source>Play a recording from the start; reconnect a camera</source>
<translation type="unfinished">Eine Aufnahme von Anfang an abspielen; eine Kamera neu verbinden</translation></message>
<message><source>&amp;Fit to window</source>
<translation type="unfinished">&amp;Einpassen</translation></message>
<message><source>Show the whole frame (double-click for 100 %)</source>
<translation type="unfinished">Das ganze Bild zeigen (Doppelklick für 100 %)</translation></message>
<message><source>&amp;Actual size</source>
<translation type="unfinished">&amp;Originalgröße</translation></message>
<message><source>100 %: one screen pixel per frame pixel</source>
<translation type="unfinished">100 %: ein Bildpunkt des Schirms für einen des Bildes</translation></message>
<message><source>Zoom &amp;in</source>
<translation type="unfinished">Ver&amp;größern</translation></message>
<message><source>Zoom in (mouse wheel)</source>
<translation type="unfinished">Vergrößern (Mausrad)</translation></message>
<message><source>Zoom &amp;out</source>
<translation type="unfinished">Verk&amp;leinern</translation></message>
<message><source>Zoom out (mouse wheel)</source>
<translation type="unfinished">Verkleinern (Mausrad)</translation></message>
<message><source>&amp;All sources</source>
<translation type="unfinished">&amp;Alle Quellen</translation></message>
<message><source>Show all sources, or the selected one alone (double-click)</source>
<translation type="unfinished">Alle Quellen zeigen, oder die gewählte allein (Doppelklick)</translation></message>
<message><source>Ne&amp;xt source</source>
<translation type="unfinished">&amp;Nächste Quelle</translation></message>
<message><source>Select the next source</source>
<translation type="unfinished">Die nächste Quelle wählen</translation></message>
<message><source>Pre&amp;vious source</source>
<translation type="unfinished">&amp;Vorige Quelle</translation></message>
<message><source>Select the source before</source>
<translation type="unfinished">Die Quelle davor wählen</translation></message>
<message><source>Full &amp;screen</source>
<translation type="unfinished">Voll&amp;bild</translation></message>
<message><source>Enter or leave full screen (Esc)</source>
<translation type="unfinished">Vollbild ein oder aus (Esc)</translation></message>
<message><source>&amp;Boxes</source>
<translation type="unfinished">&amp;Rahmen</translation></message>
<message><source>Show bounding boxes</source>
<translation type="unfinished">Rahmen zeigen</translation></message>
<message><source>&amp;Labels</source>
<translation type="unfinished">&amp;Klassennamen</translation></message>
<message><source>Show class names</source>
<translation type="unfinished">Namen der Klassen zeigen</translation></message>
<message><source>S&amp;cores</source>
<translation type="unfinished">&amp;Werte</translation></message>
<message><source>Show confidence scores</source>
<translation type="unfinished">Konfidenz zeigen</translation></message>
<message><source>&amp;Keypoints</source>
<translation type="unfinished">Schlüssel&amp;punkte</translation></message>
<message><source>Show keypoints, if the model has them</source>
<translation type="unfinished">Schlüsselpunkte zeigen, wenn das Modell welche hat</translation></message>
<message><source>Stat&amp;us bar</source>
<translation type="unfinished">&amp;Statuszeile</translation></message>
<message><source>Show frame rate, frame age and drops below the video</source>
<translation type="unfinished">Bildrate, Alter und verworfene Bilder unter dem Video zeigen</translation></message>
<message><source>Co&amp;ntrols</source>
<translation type="unfinished">Ste&amp;uerung</translation></message>
<message><source>Thresholds, classes and what is shown</source>
<translation type="unfinished">Schwellen, Klassen und was gezeigt wird</translation></message>
<message><source>&amp;Zones and lines</source>
<translation type="unfinished">&amp;Zonen und Linien</translation></message>
<message><source>Draw and edit zones and lines with the mouse</source>
<translation type="unfinished">Zonen und Linien mit der Maus zeichnen und ändern</translation></message>
<message><source>S&amp;tatistics</source>
<translation type="unfinished">S&amp;tatistik</translation></message>
<message><source>Plots of times and load, and object counts</source>
<translation type="unfinished">Verläufe von Zeiten und Last, und Zahl der Objekte</translation></message>
<message><source>&amp;Reset all settings</source>
<translation type="unfinished">Alle Einstellungen zu&amp;rücksetzen</translation></message>
<message><source>Reset everything that this window remembers</source>
<translation type="unfinished">Alles zurücksetzen, was sich dieses Fenster merkt</translation></message>
<message><source>&amp;Keyboard shortcuts</source>
<translation type="unfinished">&amp;Tastenkürzel</translation></message>
<message><source>Show all keyboard shortcuts</source>
<translation type="unfinished">Alle Tastenkürzel zeigen</translation></message>
<message><source>&amp;About Kestrel</source>
<translation type="unfinished">&amp;Über Kestrel</translation></message>
<message><source>Version and licence</source>
<translation type="unfinished">Version und Lizenz</translation></message>
<message><source>&amp;File</source>
<translation type="unfinished">&amp;Datei</translation></message>
<message><source>&amp;View</source>
<translation type="unfinished">&amp;Ansicht</translation></message>
<message><source>&amp;Playback</source>
<translation type="unfinished">&amp;Wiedergabe</translation></message>
<message><source>&amp;Help</source>
<translation type="unfinished">&amp;Hilfe</translation></message>
<message><source>&amp;Sources</source>
<translation type="unfinished">&amp;Quellen</translation></message>
<message><source>The&amp;me</source>
<translation type="unfinished">&amp;Farben</translation></message>
<message><source>Lan&amp;guage</source>
<translation type="unfinished">Sprac&amp;he</translation></message>
<message><source>&amp;System default</source>
<translation type="unfinished">Wie das &amp;System</translation></message>
<message><source>&amp;Dark</source>
<translation type="unfinished">&amp;Dunkel</translation></message>
<message><source>&amp;Light</source>
<translation type="unfinished">&amp;Hell</translation></message>
<message><source>Keyboard shortcuts</source>
<translation type="unfinished">Tastenkürzel</translation></message>
<message><source>Space</source>
<translation type="unfinished">Leertaste</translation></message>
<message><source>Pause, resume, play again at the end; among pictures a slideshow</source>
<translation type="unfinished">Anhalten, fortsetzen, am Ende noch einmal abspielen; bei Bildern eine Diaschau</translation></message>
<message><source>Arrows</source>
<translation type="unfinished">Pfeile</translation></message>
<message><source>Pan a zoomed frame; otherwise skip 1 s in a recording, or to the next picture</source>
<translation type="unfinished">Ein vergrößertes Bild verschieben; sonst in einer Aufnahme 1 s springen, oder zum nächsten Bild</translation></message>
<message><source>Alt+1 … Alt+9</source>
<translation type="unfinished">Alt+1 … Alt+9</translation></message>
<message><source>Show one of several sources alone</source>
<translation type="unfinished">Eine von mehreren Quellen allein zeigen</translation></message>
<message><source>Tab</source>
<translation type="unfinished">Tab</translation></message>
<message><source>Move between controls</source>
<translation type="unfinished">Zwischen den Bedienelementen wechseln</translation></message>
<message><source>Esc</source>
<translation type="unfinished">Esc</translation></message>
<message><source>Leave full screen, dismiss a message; it never ends the run</source>
<translation type="unfinished">Vollbild verlassen, eine Meldung schließen; beendet nie den Lauf</translation></message>
<message><source>&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;Real-time object detection for edge devices.&lt;br&gt;Apache-2.0. Nothing leaves this machine unless you ask for it.&lt;br&gt;German, Spanish and Chinese are machine translations.</source>
<translation type="unfinished">&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;Objekterkennung in Echtzeit für Geräte vor Ort.&lt;br&gt;Apache-2.0. Nichts verlässt diesen Rechner, wenn es nicht verlangt wird.&lt;br&gt;Deutsch, Spanisch und Chinesisch sind maschinell übersetzt.</translation></message>
<message><source>Outputs of this run are being written or sent. Stop them and close the window?</source>
<translation type="unfinished">Dieser Lauf schreibt oder sendet noch. Damit aufhören und das Fenster schließen?</translation></message>
<message><source>A recording is running. Finish it and close the window?</source>
<translation type="unfinished">Eine Aufnahme läuft. Sie beenden und das Fenster schließen?</translation></message>
<message><source>Reset all settings of this window, including recent sources?</source>
<translation type="unfinished">Alle Einstellungen dieses Fensters zurücksetzen, auch die zuletzt geöffneten Quellen?</translation></message>
<message><source>Toolbar</source>
<translation type="unfinished">Werkzeugleiste</translation></message>
<message><source>More tools</source>
<translation type="unfinished">Weitere Werkzeuge</translation></message>
<message><source>Source</source>
<translation type="unfinished">Quelle</translation></message>
<message><source>Choose a camera, file, folder, stream or the sample clip</source>
<translation type="unfinished">Kamera, Datei, Ordner, Strom oder den Beispielclip wählen</translation></message>
<message><source>Model</source>
<translation type="unfinished">Modell</translation></message>
<message><source>Choose the model; the current one keeps running until the new one is ready</source>
<translation type="unfinished">Das Modell wählen; das jetzige läuft weiter, bis das neue bereit ist</translation></message>
<message><source>Choose the inference engine; if it is not available, the current one stays</source>
<translation type="unfinished">Die Engine wählen; ist sie nicht verfügbar, bleibt die jetzige</translation></message>
<message><source>Cameras</source>
<translation type="unfinished">Kameras</translation></message>
<message><source>No camera found</source>
<translation type="unfinished">Keine Kamera gefunden</translation></message>
<message><source>Camera default</source>
<translation type="unfinished">Vorgabe der Kamera</translation></message>
<message><source>Sample clip</source>
<translation type="unfinished">Beispielclip</translation></message>
<message><source>Test pattern</source>
<translation type="unfinished">Testbild</translation></message>
<message><source>Recent</source>
<translation type="unfinished">Zuletzt</translation></message>
<message><source>Refresh cameras</source>
<translation type="unfinished">Kameras neu suchen</translation></message>
<message><source>Stream URL (rtsp://… or http://…):</source>
<translation type="unfinished">URL des Stroms (rtsp://… oder http://…):</translation></message>
<message><source>Open URL</source>
<translation type="unfinished">URL öffnen</translation></message>
<message><source>Folder for snapshots and recordings</source>
<translation type="unfinished">Ordner für Schnappschüsse und Aufnahmen</translation></message>
<message><source>Videos and images (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;All files (*)</source>
<translation type="unfinished">Videos und Bilder (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;Alle Dateien (*)</translation></message>
<message><source>&amp;Confidence threshold</source>
<translation type="unfinished">&amp;Konfidenzschwelle</translation></message>
<message><source>Detections with a lower score are not reported</source>
<translation type="unfinished">Detektionen mit kleinerem Wert werden nicht gemeldet</translation></message>
<message><source>Ove&amp;rlap (NMS IoU)</source>
<translation type="unfinished">Über&amp;lappung (NMS-IoU)</translation></message>
<message><source>Of two boxes of one class that overlap more than this, the lower score is dropped</source>
<translation type="unfinished">Von zwei Rahmen einer Klasse, die sich mehr überlappen, entfällt der mit dem kleineren Wert</translation></message>
<message><source>Reset to &amp;defaults</source>
<translation type="unfinished">Auf &amp;Vorgaben zurücksetzen</translation></message>
<message><source>Use the thresholds that the model comes with</source>
<translation type="unfinished">Die Schwellen verwenden, die das Modell mitbringt</translation></message>
<message><source>Classes</source>
<translation type="unfinished">Klassen</translation></message>
<message><source>Only selected classes are shown, recorded and saved by this window; --json gets all of them</source>
<translation type="unfinished">Nur gewählte Klassen zeigt, nimmt auf und speichert dieses Fenster; --json bekommt alle</translation></message>
<message><source>&amp;All</source>
<translation type="unfinished">&amp;Alle</translation></message>
<message><source>&amp;None</source>
<translation type="unfinished">K&amp;eine</translation></message>
<message><source>Select all classes</source>
<translation type="unfinished">Alle Klassen wählen</translation></message>
<message><source>Select no class</source>
<translation type="unfinished">Keine Klasse wählen</translation></message>
<message><source>Filter classes</source>
<translation type="unfinished">Klassen filtern</translation></message>
<message><source>Show</source>
<translation type="unfinished">Anzeigen</translation></message>
<message><source>Filters</source>
<translation type="unfinished">Filter</translation></message>
<message><source>What passes here reaches all outputs; tracks and events follow it</source>
<translation type="unfinished">Was hier durchgeht, erreicht alle Ausgaben; Spuren und Ereignisse folgen dem</translation></message>
<message><source>Only classes</source>
<translation type="unfinished">Nur Klassen</translation></message>
<message><source>all, or person,car</source>
<translation type="unfinished">alle, oder person,car</translation></message>
<message><source>Report no others</source>
<translation type="unfinished">Keine anderen melden</translation></message>
<message><source>Class thresholds</source>
<translation type="unfinished">Klassenschwellen</translation></message>
<message><source>person=0.5,car=0.3</source>
<translation type="unfinished">person=0.5,car=0.3</translation></message>
<message><source>Lowest score of single classes, in place of the confidence threshold</source>
<translation type="unfinished">Kleinster Wert einzelner Klassen, anstelle der Konfidenzschwelle</translation></message>
<message><source>Smallest box</source>
<translation type="unfinished">Kleinster Rahmen</translation></message>
<message><source>24, 24x48 or 5%</source>
<translation type="unfinished">24, 24x48 oder 5%</translation></message>
<message><source>Width and height in pixels, or in % of the frame's</source>
<translation type="unfinished">Breite und Höhe in Bildpunkten, oder in % derer des Bildes</translation></message>
<message><source>Largest box</source>
<translation type="unfinished">Größter Rahmen</translation></message>
<message><source>Most boxes</source>
<translation type="unfinished">Meiste Rahmen</translation></message>
<message><source>Of a frame the strongest so many are reported</source>
<translation type="unfinished">Von einem Bild werden die stärksten so vielen gemeldet</translation></message>
<message><source>One box per object</source>
<translation type="unfinished">Ein Rahmen je Objekt</translation></message>
<message><source>Of boxes that overlap, whatever their classes, only the strongest is reported</source>
<translation type="unfinished">Von Rahmen, die sich überlappen, wird nur der stärkste gemeldet, gleich welcher Klasse</translation></message>
<message><source>Zones and lines</source>
<translation type="unfinished">Zonen und Linien</translation></message>
<message><source>Draw &amp;zone</source>
<translation type="unfinished">&amp;Zone zeichnen</translation></message>
<message><source>Draw l&amp;ine</source>
<translation type="unfinished">L&amp;inie zeichnen</translation></message>
<message><source>Draw a polygon point by point</source>
<translation type="unfinished">Ein Vieleck Punkt für Punkt zeichnen</translation></message>
<message><source>Draw a line that objects cross</source>
<translation type="unfinished">Eine Linie zeichnen, die Objekte überqueren</translation></message>
<message><source>Click the corners. The first corner again, or a double-click, closes the zone.</source>
<translation type="unfinished">Die Ecken anklicken. Noch einmal die erste Ecke, oder ein Doppelklick, schließt die Zone.</translation></message>
<message><source>Click where the line begins and where it ends. The arrow will point to the side that is “in”.</source>
<translation type="unfinished">Anfang und Ende der Linie anklicken. Der Pfeil zeigt auf die Seite, die „in“ heißt.</translation></message>
<message><source>Drag a point; drag the middle of an edge to add one; double-click a point to remove it.</source>
<translation type="unfinished">Einen Punkt ziehen; die Mitte einer Kante ziehen, um einen hinzuzufügen; Doppelklick entfernt einen Punkt.</translation></message>
<message><source>Draw a zone or a line, or click one to change it. Changes take effect at once.</source>
<translation type="unfinished">Eine Zone oder eine Linie zeichnen, oder eine anklicken, um sie zu ändern. Änderungen gelten sofort.</translation></message>
<message><source>Na&amp;me</source>
<translation type="unfinished">Na&amp;me</translation></message>
<message><source>“{name}” is taken or empty; choose another name</source>
<translation type="unfinished">„{name}“ ist vergeben oder leer; einen anderen Namen wählen</translation></message>
<message><source>Co&amp;lour…</source>
<translation type="unfinished">&amp;Farbe …</translation></message>
<message><source>Choose the colour it is drawn in</source>
<translation type="unfinished">Die Farbe wählen, in der gezeichnet wird</translation></message>
<message><source>Swap &amp;in and out</source>
<translation type="unfinished">&amp;In und Out tauschen</translation></message>
<message><source>Let the line point the other way</source>
<translation type="unfinished">Die Linie in die andere Richtung zeigen lassen</translation></message>
<message><source>&amp;Delete</source>
<translation type="unfinished">&amp;Löschen</translation></message>
<message><source>Delete the selected zone or line (Delete)</source>
<translation type="unfinished">Die gewählte Zone oder Linie löschen (Entf)</translation></message>
<message><source>&amp;Undo</source>
<translation type="unfinished">&amp;Rückgängig</translation></message>
<message><source>Undo the last change (Ctrl+Z)</source>
<translation type="unfinished">Die letzte Änderung zurücknehmen (Strg+Z)</translation></message>
<message><source>&amp;Redo</source>
<translation type="unfinished">&amp;Wiederherstellen</translation></message>
<message><source>Redo it (Ctrl+Shift+Z)</source>
<translation type="unfinished">Sie wiederherstellen (Strg+Umschalt+Z)</translation></message>
<message><source>Sa&amp;ve</source>
<translation type="unfinished">&amp;Speichern</translation></message>
<message><source>Write zones and lines into the file of --config, or choose one</source>
<translation type="unfinished">Zonen und Linien in die Datei von --config schreiben, oder eine wählen</translation></message>
<message><source>Save &amp;as…</source>
<translation type="unfinished">Speichern &amp;unter …</translation></message>
<message><source>Write zones and lines into another TOML file</source>
<translation type="unfinished">Zonen und Linien in eine andere TOML-Datei schreiben</translation></message>
<message><source>File for zones and lines</source>
<translation type="unfinished">Datei für Zonen und Linien</translation></message>
<message><source>Position in the recording</source>
<translation type="unfinished">Position in der Aufnahme</translation></message>
<message><source>Drag to seek</source>
<translation type="unfinished">Ziehen, um zu springen</translation></message>
<message><source>This source does not support seeking</source>
<translation type="unfinished">In dieser Quelle kann man nicht springen</translation></message>
<message><source>Playback speed</source>
<translation type="unfinished">Tempo der Wiedergabe</translation></message>
<message><source>Loop</source>
<translation type="unfinished">Wiederholen</translation></message>
<message><source>Begin again at the end</source>
<translation type="unfinished">Am Ende von vorn beginnen</translation></message>
<message><source>The plots need pyqtgraph: pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</source>
<translation type="unfinished">Die Verläufe brauchen pyqtgraph: pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</translation></message>
<message><source>Current frame</source>
<translation type="unfinished">Aktuelles Bild</translation></message>
<message><source>Class</source>
<translation type="unfinished">Klasse</translation></message>
<message><source>Count</source>
<translation type="unfinished">Zahl</translation></message>
<message><source>Best</source>
<translation type="unfinished">Bester</translation></message>
<message><source>Object</source>
<translation type="unfinished">Objekt</translation></message>
<message><source>In view</source>
<translation type="unfinished">Sichtbar</translation></message>
<message><source>Zones</source>
<translation type="unfinished">Zonen</translation></message>
<message><source>Stage times (ms)</source>
<translation type="unfinished">Zeiten der Stufen (ms)</translation></message>
<message><source>Frame age (ms)</source>
<translation type="unfinished">Alter der Bilder (ms)</translation></message>
<message><source>Frame rate and drops (1/s)</source>
<translation type="unfinished">Bildrate und Verluste (1/s)</translation></message>
<message><source>Load (%)</source>
<translation type="unfinished">Last (%)</translation></message>
<message><source>Memory (MB)</source>
<translation type="unfinished">Speicher (MB)</translation></message>
<message><source>Temperature and power</source>
<translation type="unfinished">Temperatur und Leistung</translation></message>
<message><source>Last minute</source>
<translation type="unfinished">Letzte Minute</translation></message>
<message><source>Whole run</source>
<translation type="unfinished">Ganzer Lauf</translation></message>
<message><source>Time that the plots show</source>
<translation type="unfinished">Zeit, die die Verläufe zeigen</translation></message>
<message><source>pre</source>
<translation type="unfinished">vor</translation></message>
<message><source>post</source>
<translation type="unfinished">nach</translation></message>
<message><source>p50</source>
<translation type="unfinished">p50</translation></message>
<message><source>p95</source>
<translation type="unfinished">p95</translation></message>
<message><source>capture</source>
<translation type="unfinished">Aufnahme</translation></message>
<message><source>drops</source>
<translation type="unfinished">Verluste</translation></message>
<message><source>CPU</source>
<translation type="unfinished">CPU</translation></message>
<message><source>GPU</source>
<translation type="unfinished">GPU</translation></message>
<message><source>process</source>
<translation type="unfinished">Prozess</translation></message>
<message><source>°C</source>
<translation type="unfinished">°C</translation></message>
<message><source>W</source>
<translation type="unfinished">W</translation></message>
</context>
</TS>
