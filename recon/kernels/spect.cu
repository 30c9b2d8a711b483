// The projector for CUDA: all views of a batch at once, z fastest: images (y, x, z), projections (n, u, z).
//
// Compiled at run time by cuda_projector.py with
//   REAL            float or double: type of images, projections, kernels and sums
//   FACTOR_HALF     1: attenuation factors are kept in half precision, 0: as REAL
//   LANES, ROWS     a block has LANES threads along z and ROWS along columns or pixels
//   TILE_U, TILE_Z  columns and rows of the detector that a block makes; multiples of ROWS, and of LANES and RUN_Z
//
// Shared arguments
//   inside (y, x)         1 where the grid counts, 0 where images and maps are taken for 0
//   rows (v, d, 4)        column u of a depth plane lies at the grid index x = r0 + r1 u, y = r2 + r3 u
//   rays (v, d)           sub-rays over which a column is averaged: 1 where columns are at most 1.25 voxels apart
//   gain (v, u)           weight of each column
//   step_cm (v, u)        length of a ray between two planes
//   first, last (v, d)    columns first <= u < last of each depth plane that touch the grid
//   kernel_u, half_u, kernel_z, half_z   half kernels (v, d, taps) of the blur and their half-widths (v, d)
//   views (n,)            the views of this batch, indices into the tables above
//   start (n, d)          row of `factors` at which a plane begins; a row holds z for one lattice point
//   place (n, d)          the same for `turned`, scratch that holds the lattice points of this batch's views
//
// Work is written as loops over items between barriers, and no thread's value outlives its loop but in the arrays of
// ITEMS and RUNS: without a CUDA compiler the same text compiles as C++, where one thread does all items of a block
// (tests).

#define READ(type) const type* __restrict__

#if defined(__CUDACC__)
#define KERNEL extern "C" __global__ void __launch_bounds__(LANES * ROWS)
#define DEVICE __device__ inline
#define SHARED(name) extern __shared__ double name##_[]; REAL* const name = reinterpret_cast<REAL*>(name##_)
#define BARRIER __syncthreads()
#define LANE static_cast<int>(threadIdx.x)
#define ROW static_cast<int>(threadIdx.y)
#define LANE_STEP LANES
#define ROW_STEP ROWS
#define BLOCK_X static_cast<int>(blockIdx.x)
#define BLOCK_Y static_cast<int>(blockIdx.y)
#define BLOCK_Z static_cast<int>(blockIdx.z)
#define UNROLL _Pragma("unroll")
#else
#include <cmath>
#include <cstring>
using std::exp;
using std::floor;
using std::fma;
using std::sqrt;
static int BLOCK_X, BLOCK_Y, BLOCK_Z;
static double shared_memory[1 << 16];
// Every block begins with memory that nobody wrote to.
extern "C" void begin_block(int x, int y, int z) {
    BLOCK_X = x, BLOCK_Y = y, BLOCK_Z = z;
    std::memset(shared_memory, 0xff, sizeof shared_memory);
}
#define KERNEL extern "C" void
#define DEVICE static inline
#define SHARED(name) REAL* const name = reinterpret_cast<REAL*>(shared_memory)
#define BARRIER
#define LANE 0
#define ROW 0
#define LANE_STEP 1
#define ROW_STEP 1
#define UNROLL
#endif

// Items (row, z) with row < rows and low <= z < high, shared among the threads of a block.
#define EACH(row, rows, z, low, high)                  \
    for (int row = ROW; row < (rows); row += ROW_STEP) \
        for (int z = (low) + LANE; z < (high); z += LANE_STEP)

// The items (u, z) of a tile in the order in which each thread meets its own; k counts them at compile time.
#define TILE_ITEMS ((TILE_U / ROW_STEP) * (TILE_Z / LANE_STEP))
#define ITEMS(k, u, z)                                                                                        \
    UNROLL for (int k = 0, u = ROW, z = LANE; k < TILE_ITEMS;                                                \
         ++k, u = ROW + (k / (TILE_Z / LANE_STEP)) * ROW_STEP, z = LANE + (k % (TILE_Z / LANE_STEP)) * LANE_STEP)

// The same tile by runs of RUN_U columns that follow each other, the first of them u.
#define RUN_U (TILE_U / ROWS)
#define TILE_RUNS ((ROWS / ROW_STEP) * (TILE_Z / LANE_STEP))
#define RUNS(k, u, z)                                                                                           \
    UNROLL for (int k = 0, u = ROW * RUN_U, z = LANE; k < TILE_RUNS;                                             \
         ++k, u = (ROW + (k / (TILE_Z / LANE_STEP)) * ROW_STEP) * RUN_U,                                        \
         z = LANE + (k % (TILE_Z / LANE_STEP)) * LANE_STEP)

// Rows of z that a thread blurs at once along z.
#define RUN_Z 8

DEVICE int least(int a, int b) { return a < b ? a : b; }
DEVICE int most(int a, int b) { return a > b ? a : b; }

#if FACTOR_HALF
typedef unsigned short FACTOR;
// By hand: the header of half precision is not part of every CUDA run-time compiler.
DEVICE REAL as_real(FACTOR bits) {
#if defined(__CUDACC__)
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    _Float16 value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<REAL>(value);
#endif
}
#define LEAST_FACTOR static_cast<REAL>(6.103515625e-5)
DEVICE FACTOR rounded(REAL value) {
#if defined(__CUDACC__)
    FACTOR bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(static_cast<float>(value)));
    return bits;
#else
    const _Float16 half = static_cast<_Float16>(value);
    FACTOR bits;
    std::memcpy(&bits, &half, sizeof bits);
    return bits;
#endif
}
#else
typedef REAL FACTOR;
#define LEAST_FACTOR static_cast<REAL>(sizeof(REAL) == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308)
DEVICE REAL as_real(FACTOR value) { return value; }
DEVICE FACTOR rounded(REAL value) { return value; }
#endif
// Factors below LEAST_FACTOR, the smallest normal number of their type, are 0: for `forward` and its transpose alike.
DEVICE FACTOR as_factor(REAL value) { return rounded(value < LEAST_FACTOR ? 0 : value); }

// The four pixels around a lattice point and their weights: 0 beyond the grid and outside.
struct Point {
    int pixel[4];
    REAL weight[4];
};

// Where sub-ray k of a column lies among the columns.
DEVICE double place_of(int u, int k, int rays) { return u + ((k + 0.5) / rays - 0.5); }

// Grid index along one axis. With fma, so that every kernel gets the same bits: the transpose's too.
DEVICE double index_at(READ(double) row, double place) { return fma(row[1], place, row[0]); }

DEVICE Point point_at(READ(double) row, READ(REAL) inside, double place, REAL gain, int ny, int nx) {
    const double x = index_at(row, place), y = index_at(row + 2, place);
    const double left = floor(x), low = floor(y);
    const int column = static_cast<int>(left), line = static_cast<int>(low);
    const REAL fx = static_cast<REAL>(x - left), fy = static_cast<REAL>(y - low);
    Point point;
    UNROLL for (int c = 0; c < 4; ++c) {
        const int px = column + c % 2, py = line + c / 2;
        const bool on_grid = px >= 0 && px < nx && py >= 0 && py < ny;
        point.pixel[c] = on_grid ? py * nx + px : 0;
        point.weight[c] = on_grid ? (c % 2 ? fx : 1 - fx) * (c / 2 ? fy : 1 - fy) * inside[point.pixel[c]] * gain : 0;
    }
    return point;
}

// Bilinear sample of a volume at a point.
DEVICE REAL sample(READ(REAL) volume, const Point& point, int nz, int z) {
    REAL sum = 0;
    UNROLL for (int c = 0; c < 4; ++c) sum += point.weight[c] * volume[static_cast<long long>(point.pixel[c]) * nz + z];
    return sum;
}

// Mean of a volume over the sub-rays of a column, times its gain.
DEVICE REAL sample_column(
    READ(REAL) volume, READ(double) row, READ(REAL) inside, int u, int rays, REAL gain, int ny, int nx, int nz, int z) {
    REAL sum = 0;
    for (int k = 0; k < rays; ++k)
        sum += sample(volume, point_at(row, inside, place_of(u, k, rays), gain / rays, ny, nx), nz, z);
    return sum;
}

// N values that lie `step` apart from `line` on, blurred by a symmetric kernel of half-width H; H more lie on either side.
template <int H, int N>
DEVICE void blur_run(const REAL* line, int step, READ(REAL) kernel, REAL* blurred) {
    REAL weight[H + 1], value[N + 2 * H];
    UNROLL for (int j = 0; j <= H; ++j) weight[j] = kernel[j];
    UNROLL for (int n = 0; n < N + 2 * H; ++n) value[n] = line[(n - H) * step];
    UNROLL for (int n = 0; n < N; ++n) {
        REAL sum = weight[0] * value[n + H];
        UNROLL for (int j = 1; j <= H; ++j) sum += weight[j] * (value[n + H - j] + value[n + H + j]);
        blurred[n] = sum;
    }
}

template <int N>
DEVICE void blur(const REAL* line, int step, READ(REAL) kernel, int half, REAL* blurred) {
    switch (half) {
        case 0: blur_run<0, N>(line, step, kernel, blurred); return;
        case 1: blur_run<1, N>(line, step, kernel, blurred); return;
        case 2: blur_run<2, N>(line, step, kernel, blurred); return;
        case 3: blur_run<3, N>(line, step, kernel, blurred); return;
        case 4: blur_run<4, N>(line, step, kernel, blurred); return;
        case 5: blur_run<5, N>(line, step, kernel, blurred); return;
        case 6: blur_run<6, N>(line, step, kernel, blurred); return;
        case 7: blur_run<7, N>(line, step, kernel, blurred); return;
        default:
            UNROLL for (int n = 0; n < N; ++n) {
                REAL sum = kernel[0] * line[n * step];
                for (int j = 1; j <= half; ++j) sum += kernel[j] * (line[(n - j) * step] + line[(n + j) * step]);
                blurred[n] = sum;
            }
    }
}

// A tile of the detector and its surroundings in shared memory: `reach` = taps - 1 columns and rows on every side.
struct Tile {
    int reach, pitch, u0, z0;
    REAL* values;   // (TILE_U + 2 reach, pitch), from column u0 - reach and row z0 - reach on
    REAL* rows;     // (TILE_U + 2 reach, TILE_Z + 1), the same columns blurred along z
    Point* points;  // (TILE_U + 2 reach), lattice points of these columns
};

DEVICE Tile tile_at(REAL* memory, int block, int taps, int nz) {
    Tile tile;
    const int tiles_z = (nz + TILE_Z - 1) / TILE_Z;
    tile.reach = taps - 1;
    // Odd: threads whose columns follow each other use different banks.
    tile.pitch = (TILE_Z + 2 * tile.reach) | 1;
    tile.u0 = (block / tiles_z) * TILE_U, tile.z0 = (block % tiles_z) * TILE_Z;
    tile.values = memory;
    tile.rows = tile.values + (TILE_U + 2 * tile.reach) * tile.pitch;
    tile.points = reinterpret_cast<Point*>(tile.rows + (TILE_U + 2 * tile.reach) * (TILE_Z + 1));
    return tile;
}

// Blur a tile's values along z, in columns that its plane's blur along u needs.
DEVICE void blur_rows(const Tile& tile, READ(REAL) kernel, int half, int half_u) {
    const int count = TILE_U + 2 * half_u, begin = tile.reach - half_u;
    for (int item = ROW * LANE_STEP + LANE; item < count * (TILE_Z / RUN_Z); item += LANE_STEP * ROW_STEP) {
        const int n = begin + item % count, z = item / count * RUN_Z;
        REAL run[RUN_Z];
        blur<RUN_Z>(tile.values + n * tile.pitch + tile.reach + z, 1, kernel, half, run);
        UNROLL for (int k = 0; k < RUN_Z; ++k) tile.rows[n * (TILE_Z + 1) + z + k] = run[k];
    }
}

// Attenuation factors of the views: each thread walks one column of lattice points away from the detector.
// Grid: (columns / ROWS, nz / LANES, n).
KERNEL attenuation_factors(
    READ(REAL) mu, READ(REAL) inside, READ(double) rows, READ(int) rays, READ(REAL) step_cm, READ(int) first,
    READ(int) last, READ(long long) start, READ(int) views, int depths, int columns, int ny, int nx, int nz,
    FACTOR* factors) {
    const int view = views[BLOCK_Z];
    const int row_base = BLOCK_X * ROWS, z_base = BLOCK_Y * LANES;
    EACH(row, least(ROWS, columns - row_base), z, z_base, least(z_base + LANES, nz)) {
        const int u = row_base + row;
        REAL path = 0;
        for (int d = 0; d < depths; ++d) {
            const int plane = view * depths + d, batch_plane = BLOCK_Z * depths + d;
            if (u < first[plane] || u >= last[plane]) continue;
            const REAL mu_here = sample_column(mu, rows + 4 * plane, inside, u, rays[plane], 1, ny, nx, nz, z);
            factors[(start[batch_plane] + u - first[plane]) * nz + z] =
                as_factor(exp(-step_cm[view * columns + u] * (path + static_cast<REAL>(0.5) * mu_here)));
            path += mu_here;
        }
    }
}

// Parts (c, n, u, z) of the views' projections: part c sums the planes c * chunk <= d < (c + 1) * chunk.
// Grid: (tiles of the detector, chunks, n). Shared memory: a Tile.
KERNEL forward(
    READ(REAL) image, READ(REAL) inside, READ(double) rows, READ(int) rays, READ(REAL) gain, READ(int) first,
    READ(int) last, READ(long long) start, READ(FACTOR) factors, int attenuated, READ(REAL) kernel_u, READ(int) half_u,
    READ(REAL) kernel_z, READ(int) half_z, int taps, READ(int) views, int count, int depths, int chunk, int columns,
    int ny, int nx, int nz, REAL* parts) {
    SHARED(memory);
    const Tile tile = tile_at(memory, BLOCK_X, taps, nz);
    const int view = views[BLOCK_Z];
    REAL total[TILE_RUNS][RUN_U];
    UNROLL for (int k = 0; k < TILE_RUNS; ++k)
        UNROLL for (int i = 0; i < RUN_U; ++i) total[k][i] = 0;
    for (int d = BLOCK_Y * chunk; d < least(depths, (BLOCK_Y + 1) * chunk); ++d) {
        const int plane = view * depths + d, batch_plane = BLOCK_Z * depths + d;
        const int hu = half_u[plane], hz = half_z[plane];
        const int from = tile.u0 - hu, wide = TILE_U + 2 * hu;
        if (most(first[plane], from) >= least(last[plane], from + wide)) continue;
        const long long at = start[batch_plane] - first[plane];
        for (int k = 0; k < rays[plane]; ++k) {
            EACH(row, 1, n, 0, wide) {
                const int u = from + n;
                if (u >= first[plane] && u < last[plane])
                    tile.points[n] = point_at(
                        rows + 4 * plane, inside, place_of(u, k, rays[plane]), gain[view * columns + u] / rays[plane], ny, nx);
            }
            BARRIER;
            EACH(n, wide, m, 0, TILE_Z + 2 * hz) {
                const int u = from + n, z = tile.z0 - hz + m;
                REAL value = 0;
                if (u >= first[plane] && u < last[plane] && z >= 0 && z < nz) {
                    value = sample(image, tile.points[n], nz, z);
                    if (attenuated) value *= as_real(factors[(at + u) * nz + z]);
                }
                REAL* const target = tile.values + (tile.reach - hu + n) * tile.pitch + tile.reach - hz + m;
                *target = k ? *target + value : value;
            }
            BARRIER;
        }
        blur_rows(tile, kernel_z + static_cast<long long>(plane) * taps, hz, hu);
        BARRIER;
        READ(REAL) kernel = kernel_u + static_cast<long long>(plane) * taps;
        RUNS(k, u, z) {
            if (tile.u0 + u + RUN_U + hu > first[plane] && tile.u0 + u - hu < last[plane]) {
                REAL run[RUN_U];
                blur<RUN_U>(tile.rows + (tile.reach + u) * (TILE_Z + 1) + z, TILE_Z + 1, kernel, hu, run);
                UNROLL for (int i = 0; i < RUN_U; ++i) total[k][i] += run[i];
            }
        }
    }
    REAL* const part = parts + (static_cast<long long>(BLOCK_Y) * count + BLOCK_Z) * columns * nz;
    RUNS(k, u, z) UNROLL for (int i = 0; i < RUN_U; ++i) {
        if (tile.u0 + u + i < columns && tile.z0 + z < nz)
            part[static_cast<long long>(tile.u0 + u + i) * nz + tile.z0 + z] = total[k][i];
    }
}

// turned = T B^T (weight * projections), or B^T alone where not `attenuated`. Grid and shared memory as in forward.
KERNEL spread(
    READ(REAL) projections, READ(REAL) weights, READ(int) first, READ(int) last, READ(long long) start,
    READ(FACTOR) factors, int attenuated, READ(REAL) kernel_u, READ(int) half_u, READ(REAL) kernel_z,
    READ(int) half_z, int taps, READ(int) views, READ(long long) place, int depths, int chunk, int columns, int nz,
    REAL* turned) {
    SHARED(memory);
    const Tile tile = tile_at(memory, BLOCK_X, taps, nz);
    const int view = views[BLOCK_Z];
    const REAL* const projection = projections + static_cast<long long>(BLOCK_Z) * columns * nz;
    EACH(n, TILE_U + 2 * tile.reach, m, 0, TILE_Z + 2 * tile.reach) {
        const int u = tile.u0 - tile.reach + n, z = tile.z0 - tile.reach + m;
        const bool on_detector = u >= 0 && u < columns && z >= 0 && z < nz;
        tile.values[n * tile.pitch + m] = on_detector ? weights[view] * projection[static_cast<long long>(u) * nz + z] : 0;
    }
    for (int d = BLOCK_Y * chunk; d < least(depths, (BLOCK_Y + 1) * chunk); ++d) {
        const int plane = view * depths + d, batch_plane = BLOCK_Z * depths + d, hu = half_u[plane];
        if (most(first[plane], tile.u0) >= least(last[plane], tile.u0 + TILE_U)) continue;
        BARRIER;
        blur_rows(tile, kernel_z + static_cast<long long>(plane) * taps, half_z[plane], hu);
        BARRIER;
        READ(REAL) kernel = kernel_u + static_cast<long long>(plane) * taps;
        const long long at = start[batch_plane] - first[plane], to = place[batch_plane] - first[plane];
        RUNS(k, u, z) {
            if (tile.u0 + u + RUN_U > first[plane] && tile.u0 + u < last[plane] && tile.z0 + z < nz) {
                REAL run[RUN_U];
                blur<RUN_U>(tile.rows + (tile.reach + u) * (TILE_Z + 1) + z, TILE_Z + 1, kernel, hu, run);
                UNROLL for (int i = 0; i < RUN_U; ++i) {
                    const int column = tile.u0 + u + i;
                    if (column >= first[plane] && column < last[plane]) {
                        const long long row = tile.z0 + z;
                        if (attenuated) run[i] *= as_real(factors[(at + column) * nz + row]);
                        turned[(to + column) * nz + row] = run[i];
                    }
                }
            }
        }
    }
}

// In place, from turned = B^T residual to the derivative to mu in the camera frame; each thread walks one column of
// lattice points towards the detector. Grid: (columns / ROWS, nz / LANES, n).
KERNEL gradient_columns(
    READ(REAL) image, READ(REAL) inside, READ(double) rows, READ(int) rays, READ(REAL) gain, READ(REAL) step_cm,
    READ(int) first, READ(int) last, READ(long long) start, READ(FACTOR) factors, int attenuated, READ(int) views,
    READ(long long) place, int depths, int columns, int ny, int nx, int nz, REAL* turned) {
    const int view = views[BLOCK_Z];
    const int row_base = BLOCK_X * ROWS, z_base = BLOCK_Y * LANES;
    EACH(row, least(ROWS, columns - row_base), z, z_base, least(z_base + LANES, nz)) {
        const int u = row_base + row;
        REAL behind = 0;
        for (int d = depths - 1; d >= 0; --d) {
            const int plane = view * depths + d, batch_plane = BLOCK_Z * depths + d;
            if (u < first[plane] || u >= last[plane]) continue;
            REAL* const here = turned + (place[batch_plane] + u - first[plane]) * nz + z;
            const int column = view * columns + u;
            REAL product =
                sample_column(image, rows + 4 * plane, inside, u, rays[plane], gain[column], ny, nx, nz, z) * *here;
            if (attenuated) product *= as_real(factors[(start[batch_plane] + u - first[plane]) * nz + z]);
            *here = -step_cm[column] * (static_cast<REAL>(0.5) * product + behind);
            behind += product;
        }
    }
}

// Transpose of the rotation, without collisions: every voxel of `pixels` (those inside) gathers from the lattice points
// among whose pixels it is, in 3 planes and `across` columns at most, and adds the sum to `image`. Without `gain` all
// columns weigh 1.
// Grid: (pixels / TILE_U, nz / TILE_Z, 1). Shared memory: 3 * across weights and rows of `turned` for each of TILE_U
// pixels.
KERNEL gather(
    READ(REAL) turned, READ(double) rows, READ(int) rays, READ(REAL) gain, READ(int) first, READ(int) last,
    READ(int) views, READ(long long) place, int count, READ(int) pixels, int pixels_count, int depths, int columns,
    int across, int nx, int nz, REAL* image) {
    SHARED(memory);
    const int candidates = 3 * across;
    long long* const origins = reinterpret_cast<long long*>(memory);
    REAL* const weights = reinterpret_cast<REAL*>(origins + candidates * TILE_U);
    const int base = BLOCK_X * TILE_U, z0 = BLOCK_Y * TILE_Z;
    REAL total[TILE_ITEMS];
    UNROLL for (int k = 0; k < TILE_ITEMS; ++k) total[k] = 0;
    for (int n = 0; n < count; ++n) {
        const int view = views[n];
        READ(double) l = rows + 4ll * view * depths;
        // Planes lie a voxel apart at right angles to their columns.
        const double length = sqrt(l[1] * l[1] + l[3] * l[3]);
        BARRIER;
        EACH(row, TILE_U, c, 0, candidates) {
            REAL weight = 0;
            long long origin = 0;
            if (base + row < pixels_count) {
                const int y = pixels[base + row] / nx, x = pixels[base + row] % nx;
                const double depth = (l[1] * (y - l[2]) - l[3] * (x - l[0])) / length;
                const int d = static_cast<int>(floor(depth + 0.5)) + c / across - 1;
                if (d >= 0 && d < depths) {
                    const int plane = view * depths + d, many = rays[plane];
                    READ(double) r = rows + 4 * plane;
                    const double column = (r[1] * (x - r[0]) + r[3] * (y - r[2])) / (r[1] * r[1] + r[3] * r[3]);
                    const int u = static_cast<int>(floor(column + 0.5)) + c % across - across / 2;
                    if (u >= first[plane] && u < last[plane]) {
                        const REAL share = (gain ? gain[view * columns + u] : 1) / many;
                        for (int k = 0; k < many; ++k) {
                            const double px = index_at(r, place_of(u, k, many)), py = index_at(r + 2, place_of(u, k, many));
                            const double left = floor(px), low = floor(py);
                            const REAL fx = static_cast<REAL>(px - left), fy = static_cast<REAL>(py - low);
                            const REAL wx = x == left ? 1 - fx : x == left + 1 ? fx : 0;
                            const REAL wy = y == low ? 1 - fy : y == low + 1 ? fy : 0;
                            weight += wy * wx * share;
                        }
                        origin = (place[n * depths + d] + u - first[plane]) * nz;
                    }
                }
            }
            weights[row * candidates + c] = weight;
            origins[row * candidates + c] = origin;
        }
        BARRIER;
        ITEMS(k, row, z) {
            if (z0 + z < nz) {
                for (int c = row * candidates; c < (row + 1) * candidates; ++c) {
                    if (weights[c] != 0) total[k] += weights[c] * turned[origins[c] + z0 + z];
                }
            }
        }
    }
    ITEMS(k, row, z) {
        if (base + row < pixels_count && z0 + z < nz)
            image[static_cast<long long>(pixels[base + row]) * nz + z0 + z] += total[k];
    }
}

// Image times backprojected * inverse where inverse is positive; voxels below faint[0] become 0, before they are subnormal.
// Grid: (voxels / (LANES * ROWS), 1, 1).
KERNEL em_update(REAL* image, READ(REAL) backprojected, READ(REAL) inverse, READ(REAL) faint, long long voxels) {
    const long long base = static_cast<long long>(BLOCK_X) * LANES * ROWS;
    EACH(row, ROWS, lane, 0, LANES) {
        const long long voxel = base + row * LANES + lane;
        if (voxel >= voxels) continue;
        if (image[voxel] < faint[0]) image[voxel] = 0;
        else if (inverse[voxel] > 0) image[voxel] *= backprojected[voxel] * inverse[voxel];
    }
}

// Sum of the parts times the weight of the view; with `measured` the ratio measured / (sum + scatter) instead, 0 where
// that expectation is not positive: counts there are added to `lost`. Grid: (bins / (LANES * ROWS), n, 1).
KERNEL finish(
    READ(REAL) parts, READ(REAL) weights, READ(int) views, int count, int chunks, int bins, READ(REAL) measured,
    READ(REAL) scatter, REAL* projections, double* lost) {
    const int base = BLOCK_X * LANES * ROWS;
    EACH(row, ROWS, lane, 0, LANES) {
        const int bin = base + row * LANES + lane;
        if (bin < bins) {
            const long long at = static_cast<long long>(BLOCK_Y) * bins + bin;
            REAL sum = 0;
            for (int c = 0; c < chunks; ++c) sum += parts[static_cast<long long>(c) * count * bins + at];
            sum *= weights[views[BLOCK_Y]];
            if (measured) {
                if (scatter) sum += scatter[at];
                if (!(sum > 0) && measured[at] > 0) {
#if defined(__CUDACC__)
                    atomicAdd(lost, static_cast<double>(measured[at]));
#else
                    *lost += measured[at];
#endif
                }
                sum = sum > 0 ? measured[at] / sum : 0;
            }
            projections[at] = sum;
        }
    }
}
