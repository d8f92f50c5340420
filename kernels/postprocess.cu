// From a network's raw outputs to the few boxes that survive, so that only they cross the bus.
//
// Purpose    decode, threshold, compaction (two kernels, one a family), then sort and class-aware NMS.
// Input      for each of several frames, one after the other without gaps:
//            yolov8: (4 + classes, cells) centre, size in input pixels, then scores 0..1
//            yolox:  (cells, 5 + classes) raw xy, log wh, objectness, scores; `grid` (cells, 3) holds
//                    each cell's column, row and stride
// Output     found: the candidates, CAPACITY rows of 6 floats: x0, y0, x1, y1, score, class; `count`
//            how many there were (more than CAPACITY: the host has to do it), and after it how
//            many cells had a score that is no number; `cells_of` their cells
//            kept: up to MOST rows like those of found, by falling score; `counts`: how many
//            candidates there were, how many rows, and how many cells without a number; of both
//            the next frame's are `step` values further on, all else lies without gaps
// Convention corners in input pixels; a box must be finite, of positive size below HUGE
// Grid       candidates_*: x: 256 cells, y: frame; block 256
//            nms: x: frame; block 256
// Twin       app/inference/postprocess.py, before it maps to source pixels

enum { CAPACITY = 1024, MOST = CAPACITY };
#define HUGE_PX 1e6f

__device__ inline void keep(float* found, int* cells_of, int* count, int cell, float cx, float cy,
                            float w, float h, float score, int label) {
    if (!(w > 0 && h > 0 && w < HUGE_PX && h < HUGE_PX && fabsf(cx) < HUGE_PX && fabsf(cy) < HUGE_PX))
        return;
    int slot = atomicAdd(count, 1);
    if (slot >= CAPACITY) return;
    float* row = found + 6 * slot;
    row[0] = cx - w / 2, row[1] = cy - h / 2, row[2] = cx + w / 2, row[3] = cy + h / 2;
    row[4] = score, row[5] = label;
    cells_of[slot] = cell;
}

extern "C" __global__ void candidates_yolov8(const float* __restrict__ raw,
                                             const float* __restrict__ grid, float* found,
                                             int* cells_of, int* count, int cells, int classes,
                                             float least) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= cells) return;
    int frame = blockIdx.y;
    raw += (long long)frame * (4 + classes) * cells;
    found += 6 * CAPACITY * frame, cells_of += CAPACITY * frame, count += 2 * frame;
    float best = -1;
    int label = 0;
    bool none = false;
    for (int c = 0; c < classes; ++c) {
        float v = raw[(4 + c) * cells + i];
        if (v > best) best = v, label = c;
        if (isnan(v)) none = true;
    }
    for (int k = 0; k < 4; ++k) none |= isnan(raw[k * cells + i]);
    if (none) atomicAdd(count + 1, 1);
    if (best >= least)
        keep(found, cells_of, count, i, raw[i], raw[cells + i], raw[2 * cells + i],
             raw[3 * cells + i], best, label);
}

extern "C" __global__ void candidates_yolox(const float* __restrict__ raw,
                                            const float* __restrict__ grid, float* found,
                                            int* cells_of, int* count, int cells, int classes,
                                            float least) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= cells) return;
    int frame = blockIdx.y;
    const float* row = raw + ((long long)frame * cells + i) * (5 + classes);
    found += 6 * CAPACITY * frame, cells_of += CAPACITY * frame, count += 2 * frame;
    if (isnan(row[0] + row[1] + row[2] + row[3] + row[4])) atomicAdd(count + 1, 1);
    if (!(row[4] >= least)) return;
    float best = -1;
    int label = 0;
    for (int c = 0; c < classes; ++c)
        if (row[5 + c] > best) best = row[5 + c], label = c;
    float score = row[4] * best, stride = grid[3 * i + 2];
    if (score >= least)
        keep(found, cells_of, count, i, (row[0] + grid[3 * i]) * stride,
             (row[1] + grid[3 * i + 1]) * stride, expf(row[2]) * stride, expf(row[3]) * stride, score,
             label);
}

__device__ inline bool before(const float* found, const int* cells_of, int a, int b, int n) {
    if (a >= n || b >= n) return a < n;  // rows that are none go last
    float sa = found[6 * a + 4], sb = found[6 * b + 4];
    return sa != sb ? sa > sb : cells_of[a] < cells_of[b];
}

extern "C" __global__ void __launch_bounds__(256)
    nms(const float* __restrict__ found, const int* __restrict__ cells_of,
        const int* __restrict__ count, float* __restrict__ kept, int* __restrict__ counts,
        int step, float iou) {
    __shared__ int order[CAPACITY];
    __shared__ unsigned char gone[CAPACITY];
    __shared__ int number;
    int frame = blockIdx.x;
    found += 6 * CAPACITY * frame, cells_of += CAPACITY * frame, count += 2 * frame;
    kept += (long long)step * frame, counts += (long long)step * frame;
    int n = min(*count, (int)CAPACITY), t = threadIdx.x, size = 1;
    while (size < n) size *= 2;
    for (int i = t; i < size; i += blockDim.x) order[i] = i, gone[i] = 0;
    if (t == 0) number = 0;
    __syncthreads();
    for (int k = 2; k <= size; k *= 2)  // bitonic sort, strongest first
        for (int j = k / 2; j > 0; j /= 2) {
            for (int i = t; i < size; i += blockDim.x) {
                int other = i ^ j;
                if (other <= i) continue;
                bool rising = (i & k) == 0;
                bool wrong = rising ? before(found, cells_of, order[other], order[i], n)
                                    : before(found, cells_of, order[i], order[other], n);
                if (wrong) {
                    int saved = order[i];
                    order[i] = order[other];
                    order[other] = saved;
                }
            }
            __syncthreads();
        }
    for (int i = 0; i < n; ++i) {
        if (gone[i]) continue;  // the same for all threads: written before the last barrier
        const float* a = found + 6 * order[i];
        if (t == 0 && number < MOST) {
            for (int k = 0; k < 6; ++k) kept[6 * number + k] = a[k];
            ++number;
        }
        float area = (a[2] - a[0]) * (a[3] - a[1]);
        for (int j = i + 1 + t; j < n; j += blockDim.x) {
            const float* b = found + 6 * order[j];
            if (gone[j] || a[5] != b[5]) continue;
            float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
            float h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
            float inner = fmaxf(w, 0.0f) * fmaxf(h, 0.0f);
            float other = (b[2] - b[0]) * (b[3] - b[1]);
            if (inner > iou * (area + other - inner)) gone[j] = 1;
        }
        __syncthreads();
    }
    if (t == 0) counts[0] = count[0], counts[1] = number, counts[2] = count[1];
}
