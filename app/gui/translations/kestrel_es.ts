<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="es" sourcelanguage="en">
<extra-origin>machine translation; unfinished: not read by a speaker yet</extra-origin>
<context>
<name>Window</name>
<message><source>unavailable</source>
<translation type="unfinished">no disponible</translation></message>
<message><source>Opening the source and the model…</source>
<translation type="unfinished">Abriendo la fuente y el modelo…</translation></message>
<message><source>Opening {label}…</source>
<translation type="unfinished">Abriendo {label}…</translation></message>
<message><source>Preparing the model…</source>
<translation type="unfinished">Preparando el modelo…</translation></message>
<message><source>Video with detections</source>
<translation type="unfinished">Vídeo con detecciones</translation></message>
<message><source>This is the sample clip. To see your own video, choose a camera under “Source”, or drop a video, an image or a folder here. F1 shows the keyboard shortcuts.</source>
<translation type="unfinished">Este es el clip de muestra. Para ver su propio vídeo, elija una cámara en «Fuente» o suelte aquí un vídeo, una imagen o una carpeta. F1 muestra los atajos de teclado.</translation></message>
<message><source>Connection lost: {error}
No frames since {clock} ({seconds} s). Reconnecting…</source>
<translation type="unfinished">Conexión perdida: {error}
Sin fotogramas desde las {clock} ({seconds} s). Reconectando…</translation></message>
<message><source>{error}
Offline since {clock} ({seconds} s). Retrying…</source>
<translation type="unfinished">{error}
Sin conexión desde las {clock} ({seconds} s). Reintentando…</translation></message>
<message><source>No frames from {label} since {clock} ({seconds} s). Waiting for the next one…</source>
<translation type="unfinished">Sin fotogramas de {label} desde las {clock} ({seconds} s). Esperando el siguiente…</translation></message>
<message><source>Retry</source>
<translation type="unfinished">Reintentar</translation></message>
<message><source>Reopen</source>
<translation type="unfinished">Reabrir</translation></message>
<message><source>Play sample clip</source>
<translation type="unfinished">Reproducir el clip de muestra</translation></message>
<message><source>Show in folder</source>
<translation type="unfinished">Mostrar en la carpeta</translation></message>
<message><source>{count} classes</source>
<translation type="unfinished">{count} clases</translation></message>
<message><source>to be downloaded</source>
<translation type="unfinished">por descargar</translation></message>
<message><source>Cannot run here: {why}</source>
<translation type="unfinished">No funciona aquí: {why}</translation></message>
<message><source>Frames arrive, but there have been no results since {clock} ({seconds} s): the model or an output is too slow or does not respond.</source>
<translation type="unfinished">Llegan fotogramas, pero no hay resultados desde las {clock} ({seconds} s): el modelo o una salida es demasiado lento o no responde.</translation></message>
<message><source>Detection stopped: {error}
Choose another model or engine above, or retry.</source>
<translation type="unfinished">Detección detenida: {error}
Elija arriba otro modelo u otro motor, o reintente.</translation></message>
<message><source>Preparing {what}… {seconds} s</source>
<translation type="unfinished">Preparando {what}… {seconds} s</translation></message>
<message><source>Preparing {what}… {seconds} s. {now} keeps running until it is ready.</source>
<translation type="unfinished">Preparando {what}… {seconds} s. {now} sigue funcionando hasta que esté listo.</translation></message>
<message><source>Cancel</source>
<translation type="unfinished">Cancelar</translation></message>
<message><source>Dismiss</source>
<translation type="unfinished">Descartar</translation></message>
<message><source>the default model</source>
<translation type="unfinished">el modelo predeterminado</translation></message>
<message><source>OK</source>
<translation type="unfinished">Aceptar</translation></message>
<message><source>There is no frame to save yet</source>
<translation type="unfinished">Todavía no hay ningún fotograma que guardar</translation></message>
<message><source>FPS</source>
<translation type="unfinished">FPS</translation></message>
<message><source>Age p50 / p95</source>
<translation type="unfinished">Edad p50 / p95</translation></message>
<message><source>Dropped</source>
<translation type="unfinished">Descartados</translation></message>
<message><source>Size</source>
<translation type="unfinished">Tamaño</translation></message>
<message><source>Engine</source>
<translation type="unfinished">Motor</translation></message>
<message><source>Power</source>
<translation type="unfinished">Potencia</translation></message>
<message><source>Power draw of: {covers}; idle power included</source>
<translation type="unfinished">Consumo de: {covers}; incluye el de reposo</translation></message>
<message><source>● REC</source>
<translation type="unfinished">● GRAB</translation></message>
<message><source>Paused</source>
<translation type="unfinished">En pausa</translation></message>
<message><source>opening</source>
<translation type="unfinished">abriendo</translation></message>
<message><source>connection lost</source>
<translation type="unfinished">conexión perdida</translation></message>
<message><source>offline</source>
<translation type="unfinished">sin conexión</translation></message>
<message><source>no frames</source>
<translation type="unfinished">sin fotogramas</translation></message>
<message><source>failed</source>
<translation type="unfinished">ha fallado</translation></message>
<message><source>ended</source>
<translation type="unfinished">terminado</translation></message>
<message><source>&amp;Open file…</source>
<translation type="unfinished">&amp;Abrir archivo…</translation></message>
<message><source>Open a video or an image</source>
<translation type="unfinished">Abrir un vídeo o una imagen</translation></message>
<message><source>Open &amp;folder…</source>
<translation type="unfinished">Abrir &amp;carpeta…</translation></message>
<message><source>Open a folder of images</source>
<translation type="unfinished">Abrir una carpeta de imágenes</translation></message>
<message><source>Open &amp;URL…</source>
<translation type="unfinished">Abrir &amp;URL…</translation></message>
<message><source>Open a network stream</source>
<translation type="unfinished">Abrir una transmisión de red</translation></message>
<message><source>&amp;Snapshot</source>
<translation type="unfinished">&amp;Instantánea</translation></message>
<message><source>Save this frame with and without boxes (PNG), and its detections (JSON)</source>
<translation type="unfinished">Guardar este fotograma con y sin recuadros (PNG) y sus detecciones (JSON)</translation></message>
<message><source>&amp;Record</source>
<translation type="unfinished">&amp;Grabar</translation></message>
<message><source>Record the video with its boxes (MP4)</source>
<translation type="unfinished">Grabar el vídeo con sus recuadros (MP4)</translation></message>
<message><source>Save &amp;location…</source>
<translation type="unfinished">U&amp;bicación de guardado…</translation></message>
<message><source>Choose the folder for snapshots and recordings</source>
<translation type="unfinished">Elegir la carpeta para instantáneas y grabaciones</translation></message>
<message><source>&amp;Quit</source>
<translation type="unfinished">&amp;Salir</translation></message>
<message><source>Close the window and stop</source>
<translation type="unfinished">Cerrar la ventana y detener</translation></message>
<message><source>&amp;Pause</source>
<translation type="unfinished">&amp;Pausa</translation></message>
<message><source>Pause or resume (Space while the video has the focus)</source>
<translation type="unfinished">Pausar o reanudar (Espacio mientras el vídeo tiene el foco)</translation></message>
<message><source>Pause &amp;all</source>
<translation type="unfinished">Pausar &amp;todo</translation></message>
<message><source>Pause or resume all sources</source>
<translation type="unfinished">Pausar o reanudar todas las fuentes</translation></message>
<message><source>Slo&amp;wer</source>
<translation type="unfinished">Más &amp;lento</translation></message>
<message><source>Play a recording more slowly, down to a quarter of its speed</source>
<translation type="unfinished">Reproducir una grabación más despacio, hasta un cuarto de su velocidad</translation></message>
<message><source>Fas&amp;ter</source>
<translation type="unfinished">Más &amp;rápido</translation></message>
<message><source>Play a recording faster, up to four times its speed</source>
<translation type="unfinished">Reproducir una grabación más deprisa, hasta cuatro veces su velocidad</translation></message>
<message><source>&amp;Loop</source>
<translation type="unfinished">&amp;Bucle</translation></message>
<message><source>Begin a recording again at its end</source>
<translation type="unfinished">Volver a empezar una grabación al llegar al final</translation></message>
<message><source>&amp;Step one frame</source>
<translation type="unfinished">Avanzar un &amp;fotograma</translation></message>
<message><source>Pause, and show the next frame</source>
<translation type="unfinished">Pausar y mostrar el siguiente fotograma</translation></message>
<message><source>Step back</source>
<translation type="unfinished">Retroceder un foto&amp;grama</translation></message>
<message><source>Pause, and show the frame before (recordings)</source>
<translation type="unfinished">Pausar y mostrar el fotograma anterior (grabaciones)</translation></message>
<message><source>5 s &amp;back</source>
<translation type="unfinished">5 s atrá&amp;s</translation></message>
<message><source>Skip back in a recording, or by five pictures</source>
<translation type="unfinished">Saltar atrás en una grabación, o cinco imágenes</translation></message>
<message><source>5 s &amp;forward</source>
<translation type="unfinished">5 s a&amp;delante</translation></message>
<message><source>Skip forward, or by five pictures</source>
<translation type="unfinished">Saltar adelante, o cinco imágenes</translation></message>
<message><source>&amp;Restart</source>
<translation type="unfinished">R&amp;einiciar</translation></message>
<message><source>Play a recording from the start; reconnect a camera</source>
<translation type="unfinished">Reproducir una grabación desde el principio; reconectar una cámara</translation></message>
<message><source>&amp;Fit to window</source>
<translation type="unfinished">A&amp;justar a la ventana</translation></message>
<message><source>Show the whole frame (double-click for 100 %)</source>
<translation type="unfinished">Mostrar el fotograma entero (doble clic para 100 %)</translation></message>
<message><source>&amp;Actual size</source>
<translation type="unfinished">Tamaño &amp;real</translation></message>
<message><source>100 %: one screen pixel per frame pixel</source>
<translation type="unfinished">100 %: un píxel de pantalla por píxel del fotograma</translation></message>
<message><source>Zoom &amp;in</source>
<translation type="unfinished">A&amp;mpliar</translation></message>
<message><source>Zoom in (mouse wheel)</source>
<translation type="unfinished">Ampliar (rueda del ratón)</translation></message>
<message><source>Zoom &amp;out</source>
<translation type="unfinished">Red&amp;ucir</translation></message>
<message><source>Zoom out (mouse wheel)</source>
<translation type="unfinished">Reducir (rueda del ratón)</translation></message>
<message><source>&amp;All sources</source>
<translation type="unfinished">&amp;Todas las fuentes</translation></message>
<message><source>Show all sources, or the selected one alone (double-click)</source>
<translation type="unfinished">Mostrar todas las fuentes, o solo la seleccionada (doble clic)</translation></message>
<message><source>Ne&amp;xt source</source>
<translation type="unfinished">&amp;Fuente siguiente</translation></message>
<message><source>Select the next source</source>
<translation type="unfinished">Seleccionar la fuente siguiente</translation></message>
<message><source>Pre&amp;vious source</source>
<translation type="unfinished">Fuente &amp;anterior</translation></message>
<message><source>Select the source before</source>
<translation type="unfinished">Seleccionar la fuente anterior</translation></message>
<message><source>Full &amp;screen</source>
<translation type="unfinished">&amp;Pantalla completa</translation></message>
<message><source>Enter or leave full screen (Esc)</source>
<translation type="unfinished">Entrar o salir de pantalla completa (Esc)</translation></message>
<message><source>&amp;Boxes</source>
<translation type="unfinished">Re&amp;cuadros</translation></message>
<message><source>Show bounding boxes</source>
<translation type="unfinished">Mostrar los recuadros</translation></message>
<message><source>&amp;Labels</source>
<translation type="unfinished">Eti&amp;quetas</translation></message>
<message><source>Show class names</source>
<translation type="unfinished">Mostrar los nombres de las clases</translation></message>
<message><source>S&amp;cores</source>
<translation type="unfinished">Pu&amp;ntuaciones</translation></message>
<message><source>Show confidence scores</source>
<translation type="unfinished">Mostrar las puntuaciones de confianza</translation></message>
<message><source>&amp;Keypoints</source>
<translation type="unfinished">Puntos cla&amp;ve</translation></message>
<message><source>Show keypoints, if the model has them</source>
<translation type="unfinished">Mostrar los puntos clave, si el modelo los tiene</translation></message>
<message><source>Stat&amp;us bar</source>
<translation type="unfinished">&amp;Barra de estado</translation></message>
<message><source>Show frame rate, frame age and drops below the video</source>
<translation type="unfinished">Mostrar la tasa, la edad y los fotogramas descartados bajo el vídeo</translation></message>
<message><source>Co&amp;ntrols</source>
<translation type="unfinished">C&amp;ontroles</translation></message>
<message><source>Thresholds, classes and what is shown</source>
<translation type="unfinished">Umbrales, clases y lo que se muestra</translation></message>
<message><source>&amp;Zones and lines</source>
<translation type="unfinished">&amp;Zonas y líneas</translation></message>
<message><source>Draw and edit zones and lines with the mouse</source>
<translation type="unfinished">Dibujar y editar zonas y líneas con el ratón</translation></message>
<message><source>S&amp;tatistics</source>
<translation type="unfinished">E&amp;stadísticas</translation></message>
<message><source>Plots of times and load, and object counts</source>
<translation type="unfinished">Gráficas de tiempos y carga, y recuento de objetos</translation></message>
<message><source>&amp;Reset all settings</source>
<translation type="unfinished">&amp;Restablecer los ajustes</translation></message>
<message><source>Reset everything that this window remembers</source>
<translation type="unfinished">Restablecer todo lo que recuerda esta ventana</translation></message>
<message><source>&amp;Keyboard shortcuts</source>
<translation type="unfinished">&amp;Atajos de teclado</translation></message>
<message><source>Show all keyboard shortcuts</source>
<translation type="unfinished">Mostrar todos los atajos de teclado</translation></message>
<message><source>&amp;About Kestrel</source>
<translation type="unfinished">A&amp;cerca de Kestrel</translation></message>
<message><source>Version and licence</source>
<translation type="unfinished">Versión y licencia</translation></message>
<message><source>&amp;File</source>
<translation type="unfinished">&amp;Archivo</translation></message>
<message><source>&amp;View</source>
<translation type="unfinished">&amp;Ver</translation></message>
<message><source>&amp;Playback</source>
<translation type="unfinished">&amp;Reproducción</translation></message>
<message><source>&amp;Help</source>
<translation type="unfinished">A&amp;yuda</translation></message>
<message><source>&amp;Sources</source>
<translation type="unfinished">&amp;Fuentes</translation></message>
<message><source>The&amp;me</source>
<translation type="unfinished">&amp;Tema</translation></message>
<message><source>Lan&amp;guage</source>
<translation type="unfinished">&amp;Idioma</translation></message>
<message><source>&amp;System default</source>
<translation type="unfinished">&amp;Según el sistema</translation></message>
<message><source>&amp;Dark</source>
<translation type="unfinished">&amp;Oscuro</translation></message>
<message><source>&amp;Light</source>
<translation type="unfinished">&amp;Claro</translation></message>
<message><source>Keyboard shortcuts</source>
<translation type="unfinished">Atajos de teclado</translation></message>
<message><source>Space</source>
<translation type="unfinished">Espacio</translation></message>
<message><source>Pause, resume, play again at the end; among pictures a slideshow</source>
<translation type="unfinished">Pausar, reanudar, volver a reproducir al final; con imágenes, una presentación</translation></message>
<message><source>Arrows</source>
<translation type="unfinished">Flechas</translation></message>
<message><source>Pan a zoomed frame; otherwise skip 1 s in a recording, or to the next picture</source>
<translation type="unfinished">Desplazar un fotograma ampliado; si no, saltar 1 s en una grabación, o a la imagen siguiente</translation></message>
<message><source>Alt+1 … Alt+9</source>
<translation type="unfinished">Alt+1 … Alt+9</translation></message>
<message><source>Show one of several sources alone</source>
<translation type="unfinished">Mostrar sola una de varias fuentes</translation></message>
<message><source>Tab</source>
<translation type="unfinished">Tab</translation></message>
<message><source>Move between controls</source>
<translation type="unfinished">Moverse entre los controles</translation></message>
<message><source>Esc</source>
<translation type="unfinished">Esc</translation></message>
<message><source>Leave full screen, dismiss a message; it never ends the run</source>
<translation type="unfinished">Salir de pantalla completa, descartar un mensaje; nunca termina la ejecución</translation></message>
<message><source>&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;Real-time object detection for edge devices.&lt;br&gt;Apache-2.0. Nothing leaves this machine unless you ask for it.&lt;br&gt;German, Spanish and Chinese are machine translations.</source>
<translation type="unfinished">&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;Detección de objetos en tiempo real para dispositivos locales.&lt;br&gt;Apache-2.0. Nada sale de este equipo a menos que usted lo pida.&lt;br&gt;El alemán, el español y el chino son traducciones automáticas.</translation></message>
<message><source>Outputs of this run are being written or sent. Stop them and close the window?</source>
<translation type="unfinished">Se están escribiendo o enviando salidas de esta ejecución. ¿Detenerlas y cerrar la ventana?</translation></message>
<message><source>A recording is running. Finish it and close the window?</source>
<translation type="unfinished">Hay una grabación en curso. ¿Terminarla y cerrar la ventana?</translation></message>
<message><source>Reset all settings of this window, including recent sources?</source>
<translation type="unfinished">¿Restablecer todos los ajustes de esta ventana, incluidas las fuentes recientes?</translation></message>
<message><source>Toolbar</source>
<translation type="unfinished">Barra de herramientas</translation></message>
<message><source>More tools</source>
<translation type="unfinished">Más herramientas</translation></message>
<message><source>Source</source>
<translation type="unfinished">Fuente</translation></message>
<message><source>Choose a camera, file, folder, stream or the sample clip</source>
<translation type="unfinished">Elegir una cámara, un archivo, una carpeta, una transmisión o el clip de muestra</translation></message>
<message><source>Model</source>
<translation type="unfinished">Modelo</translation></message>
<message><source>Choose the model; the current one keeps running until the new one is ready</source>
<translation type="unfinished">Elegir el modelo; el actual sigue funcionando hasta que el nuevo esté listo</translation></message>
<message><source>Choose the inference engine; if it is not available, the current one stays</source>
<translation type="unfinished">Elegir el motor de inferencia; si no está disponible, queda el actual</translation></message>
<message><source>Cameras</source>
<translation type="unfinished">Cámaras</translation></message>
<message><source>No camera found</source>
<translation type="unfinished">No se encontró ninguna cámara</translation></message>
<message><source>Camera default</source>
<translation type="unfinished">Valor de la cámara</translation></message>
<message><source>Sample clip</source>
<translation type="unfinished">Clip de muestra</translation></message>
<message><source>Test pattern</source>
<translation type="unfinished">Patrón de prueba</translation></message>
<message><source>Recent</source>
<translation type="unfinished">Recientes</translation></message>
<message><source>Refresh cameras</source>
<translation type="unfinished">Actualizar cámaras</translation></message>
<message><source>Stream URL (rtsp://… or http://…):</source>
<translation type="unfinished">URL de la transmisión (rtsp://… o http://…):</translation></message>
<message><source>Open URL</source>
<translation type="unfinished">Abrir URL</translation></message>
<message><source>Folder for snapshots and recordings</source>
<translation type="unfinished">Carpeta para instantáneas y grabaciones</translation></message>
<message><source>Videos and images (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;All files (*)</source>
<translation type="unfinished">Vídeos e imágenes (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;Todos los archivos (*)</translation></message>
<message><source>&amp;Confidence threshold</source>
<translation type="unfinished">Umbral de &amp;confianza</translation></message>
<message><source>Detections with a lower score are not reported</source>
<translation type="unfinished">No se informa de las detecciones con menor puntuación</translation></message>
<message><source>Ove&amp;rlap (NMS IoU)</source>
<translation type="unfinished">S&amp;olapamiento (IoU de NMS)</translation></message>
<message><source>Of two boxes of one class that overlap more than this, the lower score is dropped</source>
<translation type="unfinished">De dos recuadros de una clase que se solapan más que esto, se descarta el de menor puntuación</translation></message>
<message><source>Reset to &amp;defaults</source>
<translation type="unfinished">Valores pre&amp;determinados</translation></message>
<message><source>Use the thresholds that the model comes with</source>
<translation type="unfinished">Usar los umbrales propios del modelo</translation></message>
<message><source>Classes</source>
<translation type="unfinished">Clases</translation></message>
<message><source>Only selected classes are shown, recorded and saved by this window; --json gets all of them</source>
<translation type="unfinished">Esta ventana solo muestra, graba y guarda las clases seleccionadas; --json las recibe todas</translation></message>
<message><source>&amp;All</source>
<translation type="unfinished">&amp;Todas</translation></message>
<message><source>&amp;None</source>
<translation type="unfinished">&amp;Ninguna</translation></message>
<message><source>Select all classes</source>
<translation type="unfinished">Seleccionar todas las clases</translation></message>
<message><source>Select no class</source>
<translation type="unfinished">No seleccionar ninguna clase</translation></message>
<message><source>Filter classes</source>
<translation type="unfinished">Filtrar clases</translation></message>
<message><source>Show</source>
<translation type="unfinished">Mostrar</translation></message>
<message><source>Filters</source>
<translation type="unfinished">Filtros</translation></message>
<message><source>What passes here reaches all outputs; tracks and events follow it</source>
<translation type="unfinished">Lo que pasa por aquí llega a todas las salidas; trayectorias y eventos lo siguen</translation></message>
<message><source>Only classes</source>
<translation type="unfinished">Solo clases</translation></message>
<message><source>all, or person,car</source>
<translation type="unfinished">todas, o person,car</translation></message>
<message><source>Report no others</source>
<translation type="unfinished">No informar de otras</translation></message>
<message><source>Class thresholds</source>
<translation type="unfinished">Umbrales por clase</translation></message>
<message><source>person=0.5,car=0.3</source>
<translation type="unfinished">person=0.5,car=0.3</translation></message>
<message><source>Lowest score of single classes, in place of the confidence threshold</source>
<translation type="unfinished">Puntuación mínima de clases concretas, en lugar del umbral de confianza</translation></message>
<message><source>Smallest box</source>
<translation type="unfinished">Recuadro mínimo</translation></message>
<message><source>24, 24x48 or 5%</source>
<translation type="unfinished">24, 24x48 o 5%</translation></message>
<message><source>Width and height in pixels, or in % of the frame's</source>
<translation type="unfinished">Ancho y alto en píxeles, o en % de los del fotograma</translation></message>
<message><source>Largest box</source>
<translation type="unfinished">Recuadro máximo</translation></message>
<message><source>Most boxes</source>
<translation type="unfinished">Máximo de recuadros</translation></message>
<message><source>Of a frame the strongest so many are reported</source>
<translation type="unfinished">De un fotograma se informa de tantos, los más fuertes</translation></message>
<message><source>One box per object</source>
<translation type="unfinished">Un recuadro por objeto</translation></message>
<message><source>Of boxes that overlap, whatever their classes, only the strongest is reported</source>
<translation type="unfinished">De los recuadros que se solapan, sea cual sea su clase, solo se informa del más fuerte</translation></message>
<message><source>Zones and lines</source>
<translation type="unfinished">Zonas y líneas</translation></message>
<message><source>Draw &amp;zone</source>
<translation type="unfinished">Dibujar &amp;zona</translation></message>
<message><source>Draw l&amp;ine</source>
<translation type="unfinished">Dibujar l&amp;ínea</translation></message>
<message><source>Draw a polygon point by point</source>
<translation type="unfinished">Dibujar un polígono punto por punto</translation></message>
<message><source>Draw a line that objects cross</source>
<translation type="unfinished">Dibujar una línea que crucen los objetos</translation></message>
<message><source>Click the corners. The first corner again, or a double-click, closes the zone.</source>
<translation type="unfinished">Haga clic en las esquinas. Otra vez en la primera, o un doble clic, cierra la zona.</translation></message>
<message><source>Click where the line begins and where it ends. The arrow will point to the side that is “in”.</source>
<translation type="unfinished">Haga clic donde empieza y donde termina la línea. La flecha señalará el lado que es «in».</translation></message>
<message><source>Drag a point; drag the middle of an edge to add one; double-click a point to remove it.</source>
<translation type="unfinished">Arrastre un punto; arrastre el medio de un lado para añadir uno; un doble clic quita un punto.</translation></message>
<message><source>Draw a zone or a line, or click one to change it. Changes take effect at once.</source>
<translation type="unfinished">Dibuje una zona o una línea, o haga clic en una para cambiarla. Los cambios valen de inmediato.</translation></message>
<message><source>Na&amp;me</source>
<translation type="unfinished">No&amp;mbre</translation></message>
<message><source>“{name}” is taken or empty; choose another name</source>
<translation type="unfinished">«{name}» ya existe o está vacío; elija otro nombre</translation></message>
<message><source>Co&amp;lour…</source>
<translation type="unfinished">Co&amp;lor…</translation></message>
<message><source>Choose the colour it is drawn in</source>
<translation type="unfinished">Elegir el color en que se dibuja</translation></message>
<message><source>Swap &amp;in and out</source>
<translation type="unfinished">&amp;Invertir in y out</translation></message>
<message><source>Let the line point the other way</source>
<translation type="unfinished">Hacer que la línea apunte al otro lado</translation></message>
<message><source>&amp;Delete</source>
<translation type="unfinished">&amp;Eliminar</translation></message>
<message><source>Delete the selected zone or line (Delete)</source>
<translation type="unfinished">Eliminar la zona o línea seleccionada (Supr)</translation></message>
<message><source>&amp;Undo</source>
<translation type="unfinished">&amp;Deshacer</translation></message>
<message><source>Undo the last change (Ctrl+Z)</source>
<translation type="unfinished">Deshacer el último cambio (Ctrl+Z)</translation></message>
<message><source>&amp;Redo</source>
<translation type="unfinished">&amp;Rehacer</translation></message>
<message><source>Redo it (Ctrl+Shift+Z)</source>
<translation type="unfinished">Rehacerlo (Ctrl+Mayús+Z)</translation></message>
<message><source>Sa&amp;ve</source>
<translation type="unfinished">&amp;Guardar</translation></message>
<message><source>Write zones and lines into the file of --config, or choose one</source>
<translation type="unfinished">Escribir zonas y líneas en el archivo de --config, o elegir uno</translation></message>
<message><source>Save &amp;as…</source>
<translation type="unfinished">Guardar &amp;como…</translation></message>
<message><source>Write zones and lines into another TOML file</source>
<translation type="unfinished">Escribir zonas y líneas en otro archivo TOML</translation></message>
<message><source>File for zones and lines</source>
<translation type="unfinished">Archivo para zonas y líneas</translation></message>
<message><source>Position in the recording</source>
<translation type="unfinished">Posición en la grabación</translation></message>
<message><source>Drag to seek</source>
<translation type="unfinished">Arrastrar para saltar</translation></message>
<message><source>This source does not support seeking</source>
<translation type="unfinished">Esta fuente no permite saltar</translation></message>
<message><source>Playback speed</source>
<translation type="unfinished">Velocidad de reproducción</translation></message>
<message><source>Loop</source>
<translation type="unfinished">Bucle</translation></message>
<message><source>Begin again at the end</source>
<translation type="unfinished">Volver a empezar al final</translation></message>
<message><source>The plots need pyqtgraph: pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</source>
<translation type="unfinished">Las gráficas necesitan pyqtgraph: pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</translation></message>
<message><source>Current frame</source>
<translation type="unfinished">Fotograma actual</translation></message>
<message><source>Class</source>
<translation type="unfinished">Clase</translation></message>
<message><source>Count</source>
<translation type="unfinished">Cantidad</translation></message>
<message><source>Best</source>
<translation type="unfinished">Mejor</translation></message>
<message><source>Object</source>
<translation type="unfinished">Objeto</translation></message>
<message><source>In view</source>
<translation type="unfinished">A la vista</translation></message>
<message><source>Zones</source>
<translation type="unfinished">Zonas</translation></message>
<message><source>Stage times (ms)</source>
<translation type="unfinished">Tiempos por etapa (ms)</translation></message>
<message><source>Frame age (ms)</source>
<translation type="unfinished">Edad del fotograma (ms)</translation></message>
<message><source>Frame rate and drops (1/s)</source>
<translation type="unfinished">Tasa y descartes (1/s)</translation></message>
<message><source>Load (%)</source>
<translation type="unfinished">Carga (%)</translation></message>
<message><source>Memory (MB)</source>
<translation type="unfinished">Memoria (MB)</translation></message>
<message><source>Temperature and power</source>
<translation type="unfinished">Temperatura y potencia</translation></message>
<message><source>Last minute</source>
<translation type="unfinished">Último minuto</translation></message>
<message><source>Whole run</source>
<translation type="unfinished">Toda la ejecución</translation></message>
<message><source>Time that the plots show</source>
<translation type="unfinished">Tiempo que muestran las gráficas</translation></message>
<message><source>pre</source>
<translation type="unfinished">pre</translation></message>
<message><source>post</source>
<translation type="unfinished">post</translation></message>
<message><source>p50</source>
<translation type="unfinished">p50</translation></message>
<message><source>p95</source>
<translation type="unfinished">p95</translation></message>
<message><source>capture</source>
<translation type="unfinished">captura</translation></message>
<message><source>drops</source>
<translation type="unfinished">descartes</translation></message>
<message><source>CPU</source>
<translation type="unfinished">CPU</translation></message>
<message><source>GPU</source>
<translation type="unfinished">GPU</translation></message>
<message><source>process</source>
<translation type="unfinished">proceso</translation></message>
<message><source>°C</source>
<translation type="unfinished">°C</translation></message>
<message><source>W</source>
<translation type="unfinished">W</translation></message>
</context>
</TS>
