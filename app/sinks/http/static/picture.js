// The picture of one camera: frames as they come, with what was found in them drawn over.
"use strict";
// -- the picture: each frame is drawn with the boxes that were computed from it --------------------
const TRAIL = 60;                // frames
const wanted = { boxes: kept.get("boxes") !== "no" };
const lines = new Map();          // frame index: its line of /detections
let shown = null;                 // {frame, bitmap}
const view = $("view"), pen = view.getContext("2d");

function draw() {
  if (!shown) return;
  const { bitmap, frame } = shown, ratio = devicePixelRatio || 1;
  $("stage").style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
  $("stage").style.maxWidth = `calc((100vh - 190px) * ${bitmap.width / bitmap.height})`;
  const w = Math.round(view.clientWidth * ratio), h = Math.round(view.clientHeight * ratio);
  if (view.width !== w || view.height !== h) { view.width = w; view.height = h; }
  const scale = Math.min(w / bitmap.width, h / bitmap.height);
  const x0 = (w - bitmap.width * scale) / 2, y0 = (h - bitmap.height * scale) / 2;
  pen.fillStyle = "#000"; pen.fillRect(0, 0, w, h);
  pen.drawImage(bitmap, x0, y0, bitmap.width * scale, bitmap.height * scale);
  const line = lines.get(frame);
  if (line && wanted.boxes) { drawTrails(line, x0, y0, scale, ratio); drawDetections(line, x0, y0, scale, ratio); }
  drawZones(x0, y0, bitmap.width * scale, bitmap.height * scale, ratio);
}

function drawDetections(line, x0, y0, scale, ratio) {
  const { width: w, height: h } = view, s = scale * shown.bitmap.width / line.size[0], found = [...line.detections].reverse();
  const at = ([x, y]) => [x0 + x * s, y0 + y * s];
  pen.lineJoin = pen.lineCap = "round";
  const boxes = found.map(({ box: [l, t, r, b] }) => [x0 + l * s, y0 + t * s, x0 + r * s, y0 + b * s]);
  for (const d of found) if (d.segmentation) drawMask(d, at, s, ratio);
  const bones = JSON.stringify(line.keypoint_names) === JSON.stringify(STYLE.people) ? STYLE.bones : [];
  found.forEach((d, i) => {
    const [l, t, r, b] = boxes[i];
    pen.strokeStyle = pen.fillStyle = css(colour(d.class_id)); pen.lineWidth = STYLE.line * ratio;
    if (d.polygon) { pen.beginPath(); trace(d.polygon.map(at)); pen.stroke(); }
    else pen.strokeRect(l, t, r - l, b - t);
    if (d.keypoints) drawSkeleton(d, bones, at, ratio);
  });
  pen.font = `600 ${STYLE.text * ratio}px system-ui, sans-serif`; pen.textBaseline = "middle";
  const texts = found.map(d => [d.label, d.track_id, d.score.toFixed(2)].filter(w => w !== undefined).join(" ")), height = (1.3 * STYLE.text + 2 * STYLE.pad_y) * ratio;
  const widths = texts.map(text => pen.measureText(text).width + 2 * STYLE.pad_x * ratio);
  const starts = boxes.map(([l, t, r, b], i) => {   // of a turned box its highest corner
    const top = found[i].polygon?.reduce((one, other) => other[1] < one[1] ? other : one);
    return [top ? Math.max(l, Math.min(r, x0 + top[0] * s)) : l, t, r, b];
  });
  const tags = placeTags(starts, widths, height, [x0, y0, w - x0, h - y0], ratio);
  found.forEach((d, i) => {
    const tone = colour(d.class_id), [x, y] = tags[i];
    pen.fillStyle = css(tone); pen.fillRect(x, y, widths[i], height);
    pen.fillStyle = ink(tone); pen.fillText(texts[i], x + STYLE.pad_x * ratio, y + height / 2 + ratio / 2);
  });
}

// Where the middle of the lower edge of each box has been in the last frames.
function drawTrails(line, x0, y0, scale, ratio) {
  const s = scale * shown.bitmap.width / line.size[0], trails = new Map(line.detections.filter(d => d.track_id !== undefined).map(d => [d.track_id, { tone: css(colour(d.class_id)), points: [] }]));
  if (!trails.size) return;
  for (const [frame, { detections }] of lines) if (frame <= line.frame && frame > line.frame - TRAIL)
    for (const { track_id, box: [l, , r, b] } of detections) trails.get(track_id)?.points.push([x0 + (l + r) / 2 * s, y0 + b * s]);
  pen.lineWidth = STYLE.line * ratio; pen.lineJoin = pen.lineCap = "round";
  for (const { tone, points } of trails.values()) points.forEach((to, i) => {
    if (!i) return;
    pen.globalAlpha = i / points.length; pen.strokeStyle = tone;
    pen.beginPath(); pen.moveTo(...points[i - 1]); pen.lineTo(...to); pen.stroke();
  });
  pen.globalAlpha = 1;
}

function trace(points) { points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y)); pen.closePath(); }

function drawSkeleton({ keypoints, keypoint_scores: sure }, bones, at, ratio) {
  const shown = i => !sure || sure[i] >= STYLE.sure, points = keypoints.map(at), tone = pen.strokeStyle;
  for (const [shade, width] of [["rgb(0 0 0 / 45%)", STYLE.line + 2], [tone, STYLE.line]]) {
    pen.strokeStyle = shade; pen.lineWidth = width * ratio; pen.beginPath();
    for (const [a, b] of bones) if (shown(a) && shown(b)) { pen.moveTo(...points[a]); pen.lineTo(...points[b]); }
    pen.stroke();
  }
  points.forEach(([x, y], i) => { if (shown(i)) { pen.beginPath(); pen.arc(x, y, STYLE.point * ratio, 0, 7); pen.fill(); } });
}

function drawMask(d, at, s, ratio) {
  const tone = colour(d.class_id);
  if (Array.isArray(d.segmentation)) {   // outlines
    pen.beginPath();
    for (const flat of d.segmentation) trace(flat.flatMap((x, i) => i % 2 ? [] : [at([x, flat[i + 1]])]));
    pen.fillStyle = `rgb(${tone.join(" ")} / ${STYLE.tint})`; pen.fill();
    pen.strokeStyle = css(tone); pen.lineWidth = STYLE.line / 2 * ratio; pen.stroke();
    return;
  }
  const [left, top] = d.box.map(Math.floor), [, , right, bottom] = d.box.map(Math.ceil), w = right - left, h = bottom - top;
  const picture = d.picture ||= paintRuns(d.segmentation, left, top, w, h, tone);
  const [x, y] = at([left, top]);
  pen.drawImage(picture, x, y, w * s, h * s);
}

// COCO's run lengths, column by column, as a picture of the box.
function paintRuns({ size: [height], counts: text }, left, top, w, h, tone) {
  const picture = new OffscreenCanvas(w, h), p = picture.getContext("2d"), image = p.createImageData(w, h), counts = [];
  for (let i = 0; i < text.length;) {
    let value = 0, shift = 0, group;
    do { group = text.charCodeAt(i++) - 48; value += (group & 31) * 2 ** shift; shift += 5; } while (group & 32);
    if (group & 16) value -= 2 ** shift;
    counts.push(value + (counts.length > 2 ? counts[counts.length - 2] : 0));
  }
  const inside = new Uint8Array(w * h);
  for (let i = 0, at = 0; i < counts.length; at += counts[i++])
    if (i % 2) for (let k = at; k < at + counts[i]; k++) {
      const x = Math.floor(k / height) - left, y = k % height - top;
      if (x >= 0 && x < w && y >= 0 && y < h) inside[y * w + x] = 1;
    }
  inside.forEach((on, k) => {
    const x = k % w, edge = on && !(x && x < w - 1 && inside[k - 1] && inside[k + 1] && inside[k - w] && inside[k + w]);
    if (on) image.data.set([...tone, edge ? 255 : 255 * STYLE.tint], 4 * k);
  });
  p.putImageData(image, 0, 0);
  return picture;
}

// The rule of place_tags in app/core/overlay.py.
function placeTags(boxes, widths, height, [left, top, right, bottom], ratio) {
  const area = ([l, t, r, b]) => (r - l) * (b - t), tags = [], taken = [];
  const bySize = boxes.map((_, i) => i).reverse().sort((i, j) => area(boxes[j]) - area(boxes[i]));
  for (const i of bySize) {
    const [l, t, , b] = boxes[i], width = widths[i];
    const x = Math.max(left, Math.min(l - STYLE.line * ratio / 2, right - width));
    const first = t - height >= top ? t - height : Math.max(top, t);
    const free = y => y >= top && y <= bottom - height
      && !taken.some(o => x < o.x + o.width && o.x < x + width && y < o.y + height && o.y < y + height);
    const y = [first, b, b - height].find(free) ?? first;
    tags[i] = [x, y];
    if (taken.length < STYLE.most_apart) taken.push({ x, y, width });
  }
  return tags;
}

async function show(jpeg, frame) {
  const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  const first = !shown;
  if (shown) shown.bitmap.close();
  shown = { bitmap, frame };
  draw();
  if (first) pictureCame();
}

function headEnd(bytes) {
  for (let i = 3; i < Math.min(bytes.length, 1024); i++)
    if (bytes[i - 3] === 13 && bytes[i - 2] === 10 && bytes[i - 1] === 13 && bytes[i] === 10) return i + 1;
  return -1;
}

async function watch(signal) {
  const answer = await fetch(url("/stream.mjpg"), { signal, cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  const reader = answer.body.getReader(), text = new TextDecoder("latin1");
  let bytes = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the stream has ended");
    const joined = new Uint8Array(bytes.length + value.length);
    joined.set(bytes); joined.set(value, bytes.length); bytes = joined;
    for (let start; (start = headEnd(bytes)) > 0;) {
      const head = text.decode(bytes.subarray(0, start));
      const size = +/content-length: (\d+)/i.exec(head)[1], frame = +/x-frame: (\d+)/i.exec(head)[1];
      if (bytes.length < start + size) break;
      await show(bytes.subarray(start, start + size), frame);
      bytes = bytes.slice(start + size);
    }
  }
}

let watching = null;
async function keepWatching() {
  for (;;) {
    if (document.hidden) { await sleep(300); continue; }   // nobody looks: nothing is encoded for us
    watching = new AbortController();
    try { await watch(watching.signal); }
    catch (error) { if (error.name !== "AbortError") note(); }
    await sleep(1000);
  }
}
document.addEventListener("visibilitychange", () => { if (document.hidden && watching) watching.abort(); });
addEventListener("resize", draw); document.addEventListener("fullscreenchange", draw);
