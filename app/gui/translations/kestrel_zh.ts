<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="zh" sourcelanguage="en">
<extra-origin>machine translation; unfinished: not read by a speaker yet</extra-origin>
<context>
<name>Window</name>
<message><source>unavailable</source>
<translation type="unfinished">不可用</translation></message>
<message><source>Opening the source and the model…</source>
<translation type="unfinished">正在打开视频源和模型…</translation></message>
<message><source>Opening {label}…</source>
<translation type="unfinished">正在打开 {label}…</translation></message>
<message><source>Preparing the model…</source>
<translation type="unfinished">正在准备模型…</translation></message>
<message><source>Video with detections</source>
<translation type="unfinished">带检测结果的视频</translation></message>
<message><source>This is the sample clip. To see your own video, choose a camera under “Source”, or drop a video, an image or a folder here. F1 shows the keyboard shortcuts.</source>
<translation type="unfinished">这是示例片段。要观看自己的视频，请在“视频源”中选择摄像头，或将视频、图片或文件夹拖到此处。按 F1 显示快捷键。</translation></message>
<message><source>Connection lost: {error}
No frames since {clock} ({seconds} s). Reconnecting…</source>
<translation type="unfinished">连接中断：{error}
自 {clock} 起没有画面（{seconds} 秒）。正在重新连接…</translation></message>
<message><source>{error}
Offline since {clock} ({seconds} s). Retrying…</source>
<translation type="unfinished">{error}
自 {clock} 起离线（{seconds} 秒）。正在重试…</translation></message>
<message><source>No frames from {label} since {clock} ({seconds} s). Waiting for the next one…</source>
<translation type="unfinished">自 {clock} 起 {label} 没有画面（{seconds} 秒）。正在等待下一帧…</translation></message>
<message><source>Retry</source>
<translation type="unfinished">重试</translation></message>
<message><source>Reopen</source>
<translation type="unfinished">重新打开</translation></message>
<message><source>Play sample clip</source>
<translation type="unfinished">播放示例片段</translation></message>
<message><source>Show in folder</source>
<translation type="unfinished">在文件夹中显示</translation></message>
<message><source>{count} classes</source>
<translation type="unfinished">{count} 个类别</translation></message>
<message><source>to be downloaded</source>
<translation type="unfinished">需要下载</translation></message>
<message><source>Cannot run here: {why}</source>
<translation type="unfinished">无法在此运行：{why}</translation></message>
<message><source>Frames arrive, but there have been no results since {clock} ({seconds} s): the model or an output is too slow or does not respond.</source>
<translation type="unfinished">有画面输入，但自 {clock} 起没有结果（{seconds} 秒）：模型或某个输出过慢或无响应。</translation></message>
<message><source>Detection stopped: {error}
Choose another model or engine above, or retry.</source>
<translation type="unfinished">检测已停止：{error}
请在上方选择其他模型或引擎，或重试。</translation></message>
<message><source>Preparing {what}… {seconds} s</source>
<translation type="unfinished">正在准备 {what}… {seconds} 秒</translation></message>
<message><source>Preparing {what}… {seconds} s. {now} keeps running until it is ready.</source>
<translation type="unfinished">正在准备 {what}… {seconds} 秒。就绪之前 {now} 继续运行。</translation></message>
<message><source>Cancel</source>
<translation type="unfinished">取消</translation></message>
<message><source>Dismiss</source>
<translation type="unfinished">关闭</translation></message>
<message><source>the default model</source>
<translation type="unfinished">默认模型</translation></message>
<message><source>OK</source>
<translation type="unfinished">确定</translation></message>
<message><source>There is no frame to save yet</source>
<translation type="unfinished">还没有可保存的画面</translation></message>
<message><source>FPS</source>
<translation type="unfinished">帧率</translation></message>
<message><source>Age p50 / p95</source>
<translation type="unfinished">延迟 p50 / p95</translation></message>
<message><source>Dropped</source>
<translation type="unfinished">丢弃</translation></message>
<message><source>Size</source>
<translation type="unfinished">尺寸</translation></message>
<message><source>Engine</source>
<translation type="unfinished">引擎</translation></message>
<message><source>Power</source>
<translation type="unfinished">功率</translation></message>
<message><source>Power draw of: {covers}; idle power included</source>
<translation type="unfinished">功耗范围：{covers}；含空闲功耗</translation></message>
<message><source>● REC</source>
<translation type="unfinished">● 录制</translation></message>
<message><source>Paused</source>
<translation type="unfinished">已暂停</translation></message>
<message><source>opening</source>
<translation type="unfinished">正在打开</translation></message>
<message><source>connection lost</source>
<translation type="unfinished">连接中断</translation></message>
<message><source>offline</source>
<translation type="unfinished">离线</translation></message>
<message><source>no frames</source>
<translation type="unfinished">没有画面</translation></message>
<message><source>failed</source>
<translation type="unfinished">失败</translation></message>
<message><source>ended</source>
<translation type="unfinished">已结束</translation></message>
<message><source>&amp;Open file…</source>
<translation type="unfinished">打开文件(&amp;O)…</translation></message>
<message><source>Open a video or an image</source>
<translation type="unfinished">打开视频或图片</translation></message>
<message><source>Open &amp;folder…</source>
<translation type="unfinished">打开文件夹(&amp;F)…</translation></message>
<message><source>Open a folder of images</source>
<translation type="unfinished">打开图片文件夹</translation></message>
<message><source>Open &amp;URL…</source>
<translation type="unfinished">打开网址(&amp;U)…</translation></message>
<message><source>Open a network stream</source>
<translation type="unfinished">打开网络视频流</translation></message>
<message><source>&amp;Snapshot</source>
<translation type="unfinished">快照(&amp;S)</translation></message>
<message><source>Save this frame with and without boxes (PNG), and its detections (JSON)</source>
<translation type="unfinished">保存此画面（带框与不带框的 PNG）及其检测结果（JSON）</translation></message>
<message><source>&amp;Record</source>
<translation type="unfinished">录制(&amp;R)</translation></message>
<message><source>Record the video with its boxes (MP4)</source>
<translation type="unfinished">录制带框的视频（MP4）</translation></message>
<message><source>Save &amp;location…</source>
<translation type="unfinished">保存位置(&amp;L)…</translation></message>
<message><source>Choose the folder for snapshots and recordings</source>
<translation type="unfinished">选择快照和录像的文件夹</translation></message>
<message><source>&amp;Quit</source>
<translation type="unfinished">退出(&amp;Q)</translation></message>
<message><source>Close the window and stop</source>
<translation type="unfinished">关闭窗口并停止</translation></message>
<message><source>&amp;Pause</source>
<translation type="unfinished">暂停(&amp;P)</translation></message>
<message><source>Pause or resume (Space while the video has the focus)</source>
<translation type="unfinished">暂停或继续（视频获得焦点时按空格键）</translation></message>
<message><source>Pause &amp;all</source>
<translation type="unfinished">全部暂停(&amp;A)</translation></message>
<message><source>Pause or resume all sources</source>
<translation type="unfinished">暂停或继续所有视频源</translation></message>
<message><source>Slo&amp;wer</source>
<translation type="unfinished">减速(&amp;L)</translation></message>
<message><source>Play a recording more slowly, down to a quarter of its speed</source>
<translation type="unfinished">减慢播放录像，最低为四分之一速度</translation></message>
<message><source>Fas&amp;ter</source>
<translation type="unfinished">加速(&amp;T)</translation></message>
<message><source>Play a recording faster, up to four times its speed</source>
<translation type="unfinished">加快播放录像，最高为四倍速度</translation></message>
<message><source>&amp;Loop</source>
<translation type="unfinished">循环播放(&amp;O)</translation></message>
<message><source>Begin a recording again at its end</source>
<translation type="unfinished">录像结束后从头播放</translation></message>
<message><source>&amp;Step one frame</source>
<translation type="unfinished">前进一帧(&amp;S)</translation></message>
<message><source>Pause, and show the next frame</source>
<translation type="unfinished">暂停并显示下一帧</translation></message>
<message><source>Step back</source>
<translation type="unfinished">后退一帧</translation></message>
<message><source>Pause, and show the frame before (recordings)</source>
<translation type="unfinished">暂停并显示上一帧（录像）</translation></message>
<message><source>5 s &amp;back</source>
<translation type="unfinished">后退 5 秒(&amp;B)</translation></message>
<message><source>Skip back in a recording, or by five pictures</source>
<translation type="unfinished">在录像中后退，或后退五张图片</translation></message>
<message><source>5 s &amp;forward</source>
<translation type="unfinished">前进 5 秒(&amp;F)</translation></message>
<message><source>Skip forward, or by five pictures</source>
<translation type="unfinished">前进，或前进五张图片</translation></message>
<message><source>&amp;Restart</source>
<translation type="unfinished">从头开始(&amp;R)</translation></message>
<message><source>Play a recording from the start; reconnect a camera</source>
<translation type="unfinished">从头播放录像；重新连接摄像头</translation></message>
<message><source>&amp;Fit to window</source>
<translation type="unfinished">适应窗口(&amp;F)</translation></message>
<message><source>Show the whole frame (double-click for 100 %)</source>
<translation type="unfinished">显示整个画面（双击为 100%）</translation></message>
<message><source>&amp;Actual size</source>
<translation type="unfinished">实际大小(&amp;A)</translation></message>
<message><source>100 %: one screen pixel per frame pixel</source>
<translation type="unfinished">100%：屏幕像素与画面像素一一对应</translation></message>
<message><source>Zoom &amp;in</source>
<translation type="unfinished">放大(&amp;I)</translation></message>
<message><source>Zoom in (mouse wheel)</source>
<translation type="unfinished">放大（鼠标滚轮）</translation></message>
<message><source>Zoom &amp;out</source>
<translation type="unfinished">缩小(&amp;O)</translation></message>
<message><source>Zoom out (mouse wheel)</source>
<translation type="unfinished">缩小（鼠标滚轮）</translation></message>
<message><source>&amp;All sources</source>
<translation type="unfinished">所有视频源(&amp;A)</translation></message>
<message><source>Show all sources, or the selected one alone (double-click)</source>
<translation type="unfinished">显示所有视频源，或仅显示选中的（双击）</translation></message>
<message><source>Ne&amp;xt source</source>
<translation type="unfinished">下一个视频源(&amp;X)</translation></message>
<message><source>Select the next source</source>
<translation type="unfinished">选择下一个视频源</translation></message>
<message><source>Pre&amp;vious source</source>
<translation type="unfinished">上一个视频源(&amp;V)</translation></message>
<message><source>Select the source before</source>
<translation type="unfinished">选择上一个视频源</translation></message>
<message><source>Full &amp;screen</source>
<translation type="unfinished">全屏(&amp;S)</translation></message>
<message><source>Enter or leave full screen (Esc)</source>
<translation type="unfinished">进入或退出全屏（Esc）</translation></message>
<message><source>&amp;Boxes</source>
<translation type="unfinished">边框(&amp;B)</translation></message>
<message><source>Show bounding boxes</source>
<translation type="unfinished">显示边框</translation></message>
<message><source>&amp;Labels</source>
<translation type="unfinished">标签(&amp;L)</translation></message>
<message><source>Show class names</source>
<translation type="unfinished">显示类别名称</translation></message>
<message><source>S&amp;cores</source>
<translation type="unfinished">置信度(&amp;C)</translation></message>
<message><source>Show confidence scores</source>
<translation type="unfinished">显示置信度数值</translation></message>
<message><source>&amp;Keypoints</source>
<translation type="unfinished">关键点(&amp;K)</translation></message>
<message><source>Show keypoints, if the model has them</source>
<translation type="unfinished">显示关键点（若模型支持）</translation></message>
<message><source>Stat&amp;us bar</source>
<translation type="unfinished">状态栏(&amp;U)</translation></message>
<message><source>Show frame rate, frame age and drops below the video</source>
<translation type="unfinished">在视频下方显示帧率、延迟和丢帧</translation></message>
<message><source>Co&amp;ntrols</source>
<translation type="unfinished">控制面板(&amp;N)</translation></message>
<message><source>Thresholds, classes and what is shown</source>
<translation type="unfinished">阈值、类别和显示内容</translation></message>
<message><source>&amp;Zones and lines</source>
<translation type="unfinished">区域和线(&amp;Z)</translation></message>
<message><source>Draw and edit zones and lines with the mouse</source>
<translation type="unfinished">用鼠标绘制和编辑区域与线</translation></message>
<message><source>S&amp;tatistics</source>
<translation type="unfinished">统计(&amp;T)</translation></message>
<message><source>Plots of times and load, and object counts</source>
<translation type="unfinished">时间与负载曲线，以及目标计数</translation></message>
<message><source>&amp;Reset all settings</source>
<translation type="unfinished">重置所有设置(&amp;R)</translation></message>
<message><source>Reset everything that this window remembers</source>
<translation type="unfinished">重置此窗口记住的所有内容</translation></message>
<message><source>&amp;Keyboard shortcuts</source>
<translation type="unfinished">键盘快捷键(&amp;K)</translation></message>
<message><source>Show all keyboard shortcuts</source>
<translation type="unfinished">显示所有键盘快捷键</translation></message>
<message><source>&amp;About Kestrel</source>
<translation type="unfinished">关于 Kestrel(&amp;A)</translation></message>
<message><source>Version and licence</source>
<translation type="unfinished">版本和许可证</translation></message>
<message><source>&amp;File</source>
<translation type="unfinished">文件(&amp;F)</translation></message>
<message><source>&amp;View</source>
<translation type="unfinished">视图(&amp;V)</translation></message>
<message><source>&amp;Playback</source>
<translation type="unfinished">播放(&amp;P)</translation></message>
<message><source>&amp;Help</source>
<translation type="unfinished">帮助(&amp;H)</translation></message>
<message><source>&amp;Sources</source>
<translation type="unfinished">视频源(&amp;S)</translation></message>
<message><source>The&amp;me</source>
<translation type="unfinished">主题(&amp;M)</translation></message>
<message><source>Lan&amp;guage</source>
<translation type="unfinished">语言(&amp;G)</translation></message>
<message><source>&amp;System default</source>
<translation type="unfinished">跟随系统(&amp;S)</translation></message>
<message><source>&amp;Dark</source>
<translation type="unfinished">深色(&amp;D)</translation></message>
<message><source>&amp;Light</source>
<translation type="unfinished">浅色(&amp;L)</translation></message>
<message><source>Keyboard shortcuts</source>
<translation type="unfinished">键盘快捷键</translation></message>
<message><source>Space</source>
<translation type="unfinished">空格键</translation></message>
<message><source>Pause, resume, play again at the end; among pictures a slideshow</source>
<translation type="unfinished">暂停、继续、结束后重播；图片则为幻灯片放映</translation></message>
<message><source>Arrows</source>
<translation type="unfinished">方向键</translation></message>
<message><source>Pan a zoomed frame; otherwise skip 1 s in a recording, or to the next picture</source>
<translation type="unfinished">移动放大的画面；否则在录像中跳 1 秒，或跳到下一张图片</translation></message>
<message><source>Alt+1 … Alt+9</source>
<translation type="unfinished">Alt+1 … Alt+9</translation></message>
<message><source>Show one of several sources alone</source>
<translation type="unfinished">单独显示多个视频源之一</translation></message>
<message><source>Tab</source>
<translation type="unfinished">Tab</translation></message>
<message><source>Move between controls</source>
<translation type="unfinished">在控件之间移动</translation></message>
<message><source>Esc</source>
<translation type="unfinished">Esc</translation></message>
<message><source>Leave full screen, dismiss a message; it never ends the run</source>
<translation type="unfinished">退出全屏、关闭消息；绝不会结束运行</translation></message>
<message><source>&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;Real-time object detection for edge devices.&lt;br&gt;Apache-2.0. Nothing leaves this machine unless you ask for it.&lt;br&gt;German, Spanish and Chinese are machine translations.</source>
<translation type="unfinished">&lt;b&gt;Kestrel {version}&lt;/b&gt;&lt;br&gt;面向边缘设备的实时目标检测。&lt;br&gt;Apache-2.0。未经您要求，任何数据都不会离开本机。&lt;br&gt;德语、西班牙语和中文为机器翻译。</translation></message>
<message><source>Outputs of this run are being written or sent. Stop them and close the window?</source>
<translation type="unfinished">本次运行正在写入或发送输出。停止并关闭窗口吗？</translation></message>
<message><source>A recording is running. Finish it and close the window?</source>
<translation type="unfinished">正在录制。结束录制并关闭窗口吗？</translation></message>
<message><source>Reset all settings of this window, including recent sources?</source>
<translation type="unfinished">重置此窗口的所有设置（包括最近的视频源）吗？</translation></message>
<message><source>Toolbar</source>
<translation type="unfinished">工具栏</translation></message>
<message><source>More tools</source>
<translation type="unfinished">更多工具</translation></message>
<message><source>Source</source>
<translation type="unfinished">视频源</translation></message>
<message><source>Choose a camera, file, folder, stream or the sample clip</source>
<translation type="unfinished">选择摄像头、文件、文件夹、视频流或示例片段</translation></message>
<message><source>Model</source>
<translation type="unfinished">模型</translation></message>
<message><source>Choose the model; the current one keeps running until the new one is ready</source>
<translation type="unfinished">选择模型；新模型就绪之前，当前模型继续运行</translation></message>
<message><source>Choose the inference engine; if it is not available, the current one stays</source>
<translation type="unfinished">选择推理引擎；若不可用则保留当前引擎</translation></message>
<message><source>Cameras</source>
<translation type="unfinished">摄像头</translation></message>
<message><source>No camera found</source>
<translation type="unfinished">未找到摄像头</translation></message>
<message><source>Camera default</source>
<translation type="unfinished">摄像头默认值</translation></message>
<message><source>Sample clip</source>
<translation type="unfinished">示例片段</translation></message>
<message><source>Test pattern</source>
<translation type="unfinished">测试图案</translation></message>
<message><source>Recent</source>
<translation type="unfinished">最近使用</translation></message>
<message><source>Refresh cameras</source>
<translation type="unfinished">刷新摄像头</translation></message>
<message><source>Stream URL (rtsp://… or http://…):</source>
<translation type="unfinished">视频流网址（rtsp://… 或 http://…）：</translation></message>
<message><source>Open URL</source>
<translation type="unfinished">打开网址</translation></message>
<message><source>Folder for snapshots and recordings</source>
<translation type="unfinished">快照和录像的文件夹</translation></message>
<message><source>Videos and images (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;All files (*)</source>
<translation type="unfinished">视频和图片 (*.mp4 *.mov *.mkv *.avi *.webm *.m4v *.ts *.gif *.jpg *.jpeg *.png *.bmp *.webp *.tif *.tiff);;所有文件 (*)</translation></message>
<message><source>&amp;Confidence threshold</source>
<translation type="unfinished">置信度阈值(&amp;C)</translation></message>
<message><source>Detections with a lower score are not reported</source>
<translation type="unfinished">低于此值的检测结果不会报告</translation></message>
<message><source>Ove&amp;rlap (NMS IoU)</source>
<translation type="unfinished">重叠度（NMS IoU）(&amp;R)</translation></message>
<message><source>Of two boxes of one class that overlap more than this, the lower score is dropped</source>
<translation type="unfinished">同一类别的两个框重叠超过此值时，丢弃分数较低者</translation></message>
<message><source>Reset to &amp;defaults</source>
<translation type="unfinished">恢复默认值(&amp;D)</translation></message>
<message><source>Use the thresholds that the model comes with</source>
<translation type="unfinished">使用模型自带的阈值</translation></message>
<message><source>Classes</source>
<translation type="unfinished">类别</translation></message>
<message><source>Only selected classes are shown, recorded and saved by this window; --json gets all of them</source>
<translation type="unfinished">此窗口仅显示、录制和保存所选类别；--json 输出全部类别</translation></message>
<message><source>&amp;All</source>
<translation type="unfinished">全选(&amp;A)</translation></message>
<message><source>&amp;None</source>
<translation type="unfinished">全不选(&amp;N)</translation></message>
<message><source>Select all classes</source>
<translation type="unfinished">选择所有类别</translation></message>
<message><source>Select no class</source>
<translation type="unfinished">不选择任何类别</translation></message>
<message><source>Filter classes</source>
<translation type="unfinished">筛选类别</translation></message>
<message><source>Show</source>
<translation type="unfinished">显示</translation></message>
<message><source>Filters</source>
<translation type="unfinished">过滤器</translation></message>
<message><source>What passes here reaches all outputs; tracks and events follow it</source>
<translation type="unfinished">通过此处的结果会到达所有输出；轨迹和事件随之变化</translation></message>
<message><source>Only classes</source>
<translation type="unfinished">仅限类别</translation></message>
<message><source>all, or person,car</source>
<translation type="unfinished">全部，或 person,car</translation></message>
<message><source>Report no others</source>
<translation type="unfinished">不报告其他类别</translation></message>
<message><source>Class thresholds</source>
<translation type="unfinished">类别阈值</translation></message>
<message><source>person=0.5,car=0.3</source>
<translation type="unfinished">person=0.5,car=0.3</translation></message>
<message><source>Lowest score of single classes, in place of the confidence threshold</source>
<translation type="unfinished">单个类别的最低分数，代替置信度阈值</translation></message>
<message><source>Smallest box</source>
<translation type="unfinished">最小边框</translation></message>
<message><source>24, 24x48 or 5%</source>
<translation type="unfinished">24、24x48 或 5%</translation></message>
<message><source>Width and height in pixels, or in % of the frame's</source>
<translation type="unfinished">以像素为单位的宽和高，或占画面的百分比</translation></message>
<message><source>Largest box</source>
<translation type="unfinished">最大边框</translation></message>
<message><source>Most boxes</source>
<translation type="unfinished">最多边框数</translation></message>
<message><source>Of a frame the strongest so many are reported</source>
<translation type="unfinished">每帧只报告分数最高的若干个</translation></message>
<message><source>One box per object</source>
<translation type="unfinished">每个目标一个框</translation></message>
<message><source>Of boxes that overlap, whatever their classes, only the strongest is reported</source>
<translation type="unfinished">重叠的边框不论类别，只报告分数最高者</translation></message>
<message><source>Zones and lines</source>
<translation type="unfinished">区域和线</translation></message>
<message><source>Draw &amp;zone</source>
<translation type="unfinished">绘制区域(&amp;Z)</translation></message>
<message><source>Draw l&amp;ine</source>
<translation type="unfinished">绘制线(&amp;I)</translation></message>
<message><source>Draw a polygon point by point</source>
<translation type="unfinished">逐点绘制多边形</translation></message>
<message><source>Draw a line that objects cross</source>
<translation type="unfinished">绘制目标穿越的线</translation></message>
<message><source>Click the corners. The first corner again, or a double-click, closes the zone.</source>
<translation type="unfinished">依次点击各个角。再次点击第一个角或双击即可闭合区域。</translation></message>
<message><source>Click where the line begins and where it ends. The arrow will point to the side that is “in”.</source>
<translation type="unfinished">点击线的起点和终点。箭头指向“in”一侧。</translation></message>
<message><source>Drag a point; drag the middle of an edge to add one; double-click a point to remove it.</source>
<translation type="unfinished">拖动点；拖动边的中点可添加点；双击点可删除。</translation></message>
<message><source>Draw a zone or a line, or click one to change it. Changes take effect at once.</source>
<translation type="unfinished">绘制区域或线，或点击已有的进行修改。更改立即生效。</translation></message>
<message><source>Na&amp;me</source>
<translation type="unfinished">名称(&amp;M)</translation></message>
<message><source>“{name}” is taken or empty; choose another name</source>
<translation type="unfinished">“{name}”已被使用或为空；请选择其他名称</translation></message>
<message><source>Co&amp;lour…</source>
<translation type="unfinished">颜色(&amp;L)…</translation></message>
<message><source>Choose the colour it is drawn in</source>
<translation type="unfinished">选择绘制颜色</translation></message>
<message><source>Swap &amp;in and out</source>
<translation type="unfinished">交换 in 和 out(&amp;I)</translation></message>
<message><source>Let the line point the other way</source>
<translation type="unfinished">让线指向另一侧</translation></message>
<message><source>&amp;Delete</source>
<translation type="unfinished">删除(&amp;D)</translation></message>
<message><source>Delete the selected zone or line (Delete)</source>
<translation type="unfinished">删除所选区域或线（Delete）</translation></message>
<message><source>&amp;Undo</source>
<translation type="unfinished">撤销(&amp;U)</translation></message>
<message><source>Undo the last change (Ctrl+Z)</source>
<translation type="unfinished">撤销上次更改（Ctrl+Z）</translation></message>
<message><source>&amp;Redo</source>
<translation type="unfinished">重做(&amp;R)</translation></message>
<message><source>Redo it (Ctrl+Shift+Z)</source>
<translation type="unfinished">重做（Ctrl+Shift+Z）</translation></message>
<message><source>Sa&amp;ve</source>
<translation type="unfinished">保存(&amp;V)</translation></message>
<message><source>Write zones and lines into the file of --config, or choose one</source>
<translation type="unfinished">将区域和线写入 --config 的文件，或选择一个文件</translation></message>
<message><source>Save &amp;as…</source>
<translation type="unfinished">另存为(&amp;A)…</translation></message>
<message><source>Write zones and lines into another TOML file</source>
<translation type="unfinished">将区域和线写入其他 TOML 文件</translation></message>
<message><source>File for zones and lines</source>
<translation type="unfinished">区域和线的文件</translation></message>
<message><source>Position in the recording</source>
<translation type="unfinished">录像中的位置</translation></message>
<message><source>Drag to seek</source>
<translation type="unfinished">拖动以跳转</translation></message>
<message><source>This source does not support seeking</source>
<translation type="unfinished">此视频源不支持跳转</translation></message>
<message><source>Playback speed</source>
<translation type="unfinished">播放速度</translation></message>
<message><source>Loop</source>
<translation type="unfinished">循环</translation></message>
<message><source>Begin again at the end</source>
<translation type="unfinished">结束后从头开始</translation></message>
<message><source>The plots need pyqtgraph: pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</source>
<translation type="unfinished">曲线图需要 pyqtgraph：pip install 'pyqtgraph&gt;=0.13.7,&lt;0.15'</translation></message>
<message><source>Current frame</source>
<translation type="unfinished">当前画面</translation></message>
<message><source>Class</source>
<translation type="unfinished">类别</translation></message>
<message><source>Count</source>
<translation type="unfinished">数量</translation></message>
<message><source>Best</source>
<translation type="unfinished">最高</translation></message>
<message><source>Object</source>
<translation type="unfinished">目标</translation></message>
<message><source>In view</source>
<translation type="unfinished">可见时长</translation></message>
<message><source>Zones</source>
<translation type="unfinished">区域</translation></message>
<message><source>Stage times (ms)</source>
<translation type="unfinished">各阶段耗时（毫秒）</translation></message>
<message><source>Frame age (ms)</source>
<translation type="unfinished">画面延迟（毫秒）</translation></message>
<message><source>Frame rate and drops (1/s)</source>
<translation type="unfinished">帧率与丢帧（每秒）</translation></message>
<message><source>Load (%)</source>
<translation type="unfinished">负载（%）</translation></message>
<message><source>Memory (MB)</source>
<translation type="unfinished">内存（MB）</translation></message>
<message><source>Temperature and power</source>
<translation type="unfinished">温度与功率</translation></message>
<message><source>Last minute</source>
<translation type="unfinished">最近一分钟</translation></message>
<message><source>Whole run</source>
<translation type="unfinished">整个运行</translation></message>
<message><source>Time that the plots show</source>
<translation type="unfinished">曲线图显示的时间</translation></message>
<message><source>pre</source>
<translation type="unfinished">预处理</translation></message>
<message><source>post</source>
<translation type="unfinished">后处理</translation></message>
<message><source>p50</source>
<translation type="unfinished">p50</translation></message>
<message><source>p95</source>
<translation type="unfinished">p95</translation></message>
<message><source>capture</source>
<translation type="unfinished">采集</translation></message>
<message><source>drops</source>
<translation type="unfinished">丢帧</translation></message>
<message><source>CPU</source>
<translation type="unfinished">CPU</translation></message>
<message><source>GPU</source>
<translation type="unfinished">GPU</translation></message>
<message><source>process</source>
<translation type="unfinished">进程</translation></message>
<message><source>°C</source>
<translation type="unfinished">°C</translation></message>
<message><source>W</source>
<translation type="unfinished">W</translation></message>
</context>
</TS>
