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
//            kept: up to `most` rows like those of found, by falling score; `counts`: how many
//            candidates there were, how many rows, and how many cells without a number; of both
//            the next frame's are `step` values further on, all else lies without gaps
// Convention corners in input pixels; a box must be finite, of positive size below HUGE
// Grid       candidates_*: x: 256 cells, y: frame; block 256
//            nms: x: frame; block 256
// Twin       app/inference/postprocess.py, before it maps to source pixels

enum { CAPACITY = 1024 };
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

extern "C" __global__ void __launch_bounds__(256)
    nms(const float* __restrict__ found, const int* __restrict__ cells_of,
        const int* __restrict__ count, float* __restrict__ kept, int* __restrict__ counts,
        int step, int most, float iou) {
    __shared__ int order[CAPACITY], cells[CAPACITY];
    __shared__ float scores[CAPACITY], corners[4][CAPACITY], labels[CAPACITY];
    __shared__ unsigned char gone[CAPACITY];
    int frame = blockIdx.x;
    found += 6 * CAPACITY * frame, cells_of += CAPACITY * frame, count += 2 * frame;
    kept += (long long)step * frame, counts += (long long)step * frame;
    int n = min(*count, (int)CAPACITY), t = threadIdx.x, size = 1;
    while (size < n) size *= 2;
    for (int i = t; i < size; i += blockDim.x) {
        order[i] = i, gone[i] = 0;
        if (i < n) scores[i] = found[6 * i + 4], cells[i] = cells_of[i];
    }
    __syncthreads();
    auto before = [&](int a, int b) {
        if (a >= n || b >= n) return a < n;  // rows that are none go last
        return scores[a] != scores[b] ? scores[a] > scores[b] : cells[a] < cells[b];
    };
    for (int k = 2; k <= size; k *= 2)  // bitonic sort, strongest first
        for (int j = k / 2; j > 0; j /= 2) {
            for (int i = t; i < size; i += blockDim.x) {
                int other = i ^ j;
                if (other <= i) continue;
                int a = order[i], b = order[other];
                if ((i & k) == 0 ? before(b, a) : before(a, b)) order[i] = b, order[other] = a;
            }
            __syncthreads();
        }
    for (int i = t; i < n; i += blockDim.x) {
        const float* row = found + 6 * order[i];
        for (int k = 0; k < 4; ++k) corners[k][i] = row[k];
        labels[i] = row[5];
    }
    __syncthreads();
    int number = 0;  // the same for all threads, as `gone` is: written before the last barrier
    for (int i = 0; i < n && number < most; ++i) {
        if (gone[i]) continue;
        float x0 = corners[0][i], y0 = corners[1][i], x1 = corners[2][i], y1 = corners[3][i];
        float* row = kept + 6 * number++;
        if (t < 4) row[t] = corners[t][i];
        if (t == 4) row[4] = scores[order[i]], row[5] = labels[i];
        float area = (x1 - x0) * (y1 - y0);
        for (int j = i + 1 + t; j < n; j += blockDim.x) {
            if (gone[j] || labels[i] != labels[j]) continue;
            float w = fminf(x1, corners[2][j]) - fmaxf(x0, corners[0][j]);
            float h = fminf(y1, corners[3][j]) - fmaxf(y0, corners[1][j]);
            float inner = fmaxf(w, 0.0f) * fmaxf(h, 0.0f);
            float other = (corners[2][j] - corners[0][j]) * (corners[3][j] - corners[1][j]);
            if (inner > iou * (area + other - inner)) gone[j] = 1;
        }
        __syncthreads();
    }
    if (t == 0) counts[0] = count[0], counts[1] = number, counts[2] = count[1];
}
