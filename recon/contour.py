"""The head's skin surface in SPECT images that were not corrected for attenuation: the boundary of the attenuator.

The surface is star-shaped about a centre line and is kept as the squared radius R2(z, angle): of an ellipsoid that is a
parabola in z and two harmonics in the angle, it passes through 0 where the head closes, and where the head runs out of
the field it simply goes on. It is found in two steps: a low threshold, then a fit of what lies under the blurred edge,
brain, a gap (skull), and a layer of scalp, along the surface's normals. The layer is what locates the skin: uncorrected
images show it at about twice its true ratio to the brain, because hardly anything attenuates it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates, maximum_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtr

from spectac.recon.errors import InputError
from spectac.recon.types import Array, Grid, Image

HEAD_ML = 400.0
"""The head's level is what 400 mL exceed: a third of a brain, and twice what two striata or glands fill when blurred."""
SLICE_CM2 = 60.0
"""The same within one slice: a third of a brain's, half of a neck's section, and twice that of two blurred striata."""
FOCAL_RATIO = 0.03
"""Head level over that of the hottest 5 mL: 0.1 and above for striata of ten times the brain, 0 for foci alone."""
EDGE_SIGMA_MM = 5.1
"""Blur of a preview's edges: 5.1 for the Monte Carlo cylinder of SimSET (LEHR, 15 cm), 4.6-5.5 for radii of 13-15 cm."""
MARGIN_MM = (11.5, 2.5)
"""Brain to skin, mean and spread: 2 mm of fluid, 5-7 of skull, 4-6 of scalp. Only a prior: what is seen overrules it."""
SCALP_MM = 5.0
HOT_RATIO = 1.8
"""Below the skin, more than this times the slice's level is a gland or a focus, not the layer that shows the surface."""

_ANGLES = np.deg2rad(np.arange(0.0, 360.0, 10.0))
_DEPTHS_MM = np.arange(-24.0, 25.0, 2.0)


@dataclass(frozen=True, eq=False)
class Outline:
    """The head as a mask (z, y, x) of 0 to 1 on `grid`, with the covered share in voxels at its edge, and warnings."""

    mask: Array
    grid: Grid
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=np.float32)
        if mask.shape != self.grid.shape:
            raise InputError(f"an outline's mask needs the shape of its grid {self.grid.shape}, got {mask.shape}")
        if not (mask.min() >= 0.0 and mask.max() <= 1.0):
            raise InputError(f"an outline's mask runs from 0 to 1, got {mask.min():g} to {mask.max():g}")
        mask = mask.view()
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class _Levels:
    air: float
    head: float
    peak: float
    slices: Array
    seen: Array


def head_outline(photopeak: Image, scatter: Image | None = None) -> Outline:
    levels = _levels(photopeak)
    R2, centre, seen = _surface(photopeak, levels)
    if scatter is not None:
        lv = _levels(scatter)
        R2, centre, seen = _surface(scatter, lv, layered=False)
    return Outline(_mask(R2, centre, photopeak.grid), photopeak.grid)


def _levels(image: Image) -> _Levels:
    values, grid = image.values, image.grid
    seen = values.max(axis=(1, 2)) > 0
    z, y, x = grid.centres_mm()
    inside = values[seen]
    ordered = np.sort(inside.ravel())[::-1]
    top = lambda ml: float(ordered[min(ordered.size - 1, int(ml / grid.voxel_ml))])
    head = top(HEAD_ML)
    yy, xx = np.meshgrid(y - y.mean(), x - x.mean(), indexing="ij")
    air = float(np.median(inside[:, np.hypot(yy, xx) > 115.0]))
    n = int(SLICE_CM2 * 100 / grid.voxel_mm[1] ** 2)
    slices = np.sort(values.reshape(len(z), -1), axis=1)[:, -n]
    return _Levels(air, head, top(5.0), slices, seen)


def _surface(image: Image, levels: _Levels, rounds: int = 2, layered=True):
    grid = image.grid
    v = image.values - levels.air
    B = levels.head - levels.air
    L = np.clip(gaussian_filter1d(levels.slices - levels.air, 1.0), 0.3 * B, None)
    T = 0.08 * L
    v = np.clip(v, 0, None)
    smooth = gaussian_filter(np.minimum(v, 2 * L[:, None, None]), (1.0, 1.0, 1.0))
    nz, ny, nx = grid.shape
    above = smooth > T[:, None, None]
    area = above.sum(axis=(1, 2)) * levels.seen
    yy, xx = np.mgrid[:ny, :nx]
    w = np.minimum(smooth, L[:, None, None]) * above
    tot = w.sum((1, 2)) * levels.seen
    c = []
    for k in (yy, xx):
        m = (w * k).sum((1, 2)) * levels.seen
        c.append(
            gaussian_filter1d(m, 5.0, mode="nearest") / np.maximum(gaussian_filter1d(tot, 5.0, mode="nearest"), 1e-9)
        )
    centre = np.stack(c, 1)
    exist = levels.seen & (area * grid.voxel_mm[1] ** 2 > 500.0)
    zi = np.nonzero(exist)[0]
    r = np.arange(0, 124.0, 2.0) / grid.voxel_mm[1]
    pts = np.stack(
        np.broadcast_arrays(
            zi[:, None, None].astype(float),
            centre[zi, 0][:, None, None] + np.sin(_ANGLES)[None, :, None] * r,
            centre[zi, 1][:, None, None] + np.cos(_ANGLES)[None, :, None] * r,
        )
    )
    p = map_coordinates(smooth, pts, order=1)
    over = p > T[zi][:, None, None]
    last = over.shape[2] - 1 - np.argmax(over[:, :, ::-1], axis=2)
    has = over.any(axis=2) & (last < over.shape[2] - 1)
    last = np.minimum(last, over.shape[2] - 2)
    a = np.take_along_axis(p, last[..., None], 2)[..., 0]
    b = np.take_along_axis(p, last[..., None] + 1, 2)[..., 0]
    R = (last + np.clip((a - T[zi][:, None]) / np.maximum(a - b, 1e-12), 0, 1)) * 2.0
    zmm = np.broadcast_to(zi[:, None] * grid.voxel_mm[0], R.shape)
    th = np.broadcast_to(_ANGLES[None], R.shape)
    R2 = _fit(zmm, th, R, has.astype(float), grid)
    for _ in range(rounds):
        R2 = _refine(v, L, B, R2, centre, zi, grid, layered)
    return R2, centre, exist


def _fit(zmm, th, R, w, grid, robust=4):
    """Penalised fit; returns R2 (nz, angles)."""
    order = 6
    nz = grid.shape[0]
    z_all = np.arange(nz) * grid.voxel_mm[0]
    step = 8.0
    knots = np.arange(-4, int(z_all[-1] / step) + 6) * step
    n_b = len(knots) - 4

    def bz(z):
        return BSpline.design_matrix(np.clip(z, knots[3], knots[-4] - 1e-6), knots, 3).toarray()

    def bt(t):
        return np.concatenate(
            [np.ones((1, t.size)), *[np.stack([np.cos(k * t), np.sin(k * t)]) for k in range(1, order + 1)]]
        ).T

    k = np.r_[0, np.repeat(np.arange(1, order + 1), 2)]
    keep = w.ravel() > 0
    zmm, th, R, w = (q.ravel()[keep] for q in (zmm, th, R, w))
    Z, A = bz(zmm), bt(th)
    first = np.argmax(Z > 0, axis=1)
    cols = np.minimum(first[:, None] + np.arange(4), n_b - 1)
    vals = np.take_along_axis(Z, cols, 1) * (first[:, None] + np.arange(4) < n_b)
    data = (vals[:, :, None] * A[:, None, :]).reshape(len(Z), -1)
    ci = (cols[:, :, None] * len(k) + np.arange(len(k))).reshape(len(Z), -1)
    X = csr_array((data.ravel(), ci.ravel(), np.arange(len(Z) + 1) * ci.shape[1]), shape=(len(Z), n_b * len(k)))
    y = (R**2).ravel()
    base = w.ravel() / (2 * np.maximum(R.ravel(), 15.0)) ** 2
    D = np.diff(np.eye(n_b), 2, axis=0)
    lam_z, lam_t = FIT[0], FIT[1]
    s = 1 / (2 * 80.0) ** 2
    P = s * (np.kron(lam_z * D.T @ D, np.eye(len(k))) + np.kron(np.eye(n_b), np.diag(lam_t * k.astype(float) ** 4)))
    P += 1e-9 * s * np.eye(len(P))
    h = base.copy()
    for _ in range(robust):
        XH = (X * h[:, None]).T.tocsr()
        c = cho_solve(cho_factor((XH @ X).toarray() + P), XH @ y)
        e = (y - X @ c) * np.sqrt(np.maximum(base, 1e-12))
        sc = 3.0
        h = base / (1 + (e / np.maximum(np.sqrt(np.maximum(w.ravel(), 1e-6)), 1e-3) / sc) ** 2)
    full = np.einsum("zb,bk,ak->za", bz(z_all), c.reshape(n_b, -1), bt(_ANGLES))
    return full


LEAST = 0.08
TISSUE = 0.5
DBG = []
FIT = [20.0, 0.02]


def _templates():
    xs = np.arange(-12.0, 12.5, 1.0)
    ms = np.r_[0.0, np.arange(7.0, 30.1, 1.5)]
    X, M = (q.ravel() for q in np.meshgrid(xs, ms, indexing="ij"))
    t = np.where(M > 14, M - 8.0, SCALP_MM)
    d = _DEPTHS_MM[:, None]
    s = EDGE_SIGMA_MM
    brain = ndtr((X - M - d) / s)
    layer = np.where(M > 0, ndtr((X - d) / s) - ndtr((X - t - d) / s), 0.0)
    prior = np.where(M == 0, np.log(0.3), np.logaddexp(-0.5 * ((M - MARGIN_MM[0]) / MARGIN_MM[1]) ** 2, np.log(0.1)))
    return X, M, brain, layer, prior


def _refine(v, L, B, R2, centre, zi, grid, layered=True):
    mm = grid.voxel_mm[1]
    R = np.sqrt(np.maximum(R2, 1.0))
    Rz = np.gradient(R, grid.voxel_mm[0], axis=0)
    Rt = (np.roll(R, -1, 1) - np.roll(R, 1, 1)) / (2 * (_ANGLES[1] - _ANGLES[0]))
    cz = np.gradient(centre * mm, grid.voxel_mm[0], axis=0)
    sn, cs = np.sin(_ANGLES), np.cos(_ANGLES)
    # in-plane normal components: radial 1, tangential -Rt/R ; z: -(Rz + c' . er) (level function r - R)
    er = np.stack([sn, cs], -1)
    et = np.stack([cs, -sn], -1)
    ny_x = er[None] - (Rt / R)[..., None] * et[None]
    # moving centre: r = |p - c(z)|
    nzc = -Rz - np.einsum("zc,zac->za", cz, ny_x)
    norm = np.sqrt(1 + (Rt / R) ** 2 + nzc**2)
    nrm = np.concatenate([nzc[..., None], ny_x], -1) / norm[..., None]
    nr = 1 / norm
    pos = np.concatenate(
        [
            np.broadcast_to(np.arange(len(R))[:, None, None], (*R.shape, 1)) * grid.voxel_mm[0],
            centre[:, None] * mm + R[..., None] * er[None],
        ],
        -1,
    )
    pos, nrm_, ok = pos[zi], nrm[zi], (R2 > 25.0**2)[zi] & (nr > 0.4)[zi]
    q = pos[..., None, :] + _DEPTHS_MM[:, None] * nrm_[..., None, :]
    q = np.moveaxis(q, -1, 0) / np.array(grid.voxel_mm)[:, None, None, None]
    q[0] = np.clip(q[0], zi[0], zi[-1])
    p = map_coordinates(v, q, order=1)
    inner = p[..., _DEPTHS_MM <= 0].max(-1)
    Lz = gaussian_filter1d(L, 2.0)[zi][:, None]
    near = maximum_filter1d(L, 13)[zi][:, None]
    hot = gaussian_filter(inner, (1, 1), mode=("nearest", "wrap")) > HOT_RATIO * near
    w0 = (ok & ~hot).astype(float)
    sig = (2.0, 1.5)
    den = gaussian_filter(w0, sig, mode=("nearest", "wrap"))
    pm = (
        gaussian_filter(p * w0[..., None], (*sig, 0), mode=("nearest", "wrap", "nearest"))
        / np.maximum(den, 1e-6)[..., None]
    )
    pm = pm - pm[..., -2:].mean(-1, keepdims=True)
    X, M, Tb, Tl, prior = _templates()
    flat = pm.reshape(-1, len(_DEPTHS_MM))
    local = np.broadcast_to(Lz, pm.shape[:2]).reshape(-1, 1)
    W = 1 / ((0.08 * np.abs(flat)) ** 2 + (0.01 * local) ** 2)
    bb, ll, bl = W @ Tb**2, W @ Tl**2, W @ (Tb * Tl)
    yb, yl, yy = (W * flat) @ Tb, (W * flat) @ Tl, (W * flat**2).sum(1, keepdims=True)
    det = bb * ll - bl**2
    good = det > 1e-6 * bb * np.maximum(ll, 1e-12)
    det = np.where(good, det, 1)
    cb, cl = (ll * yb - bl * yl) / det, (bb * yl - bl * yb) / det
    both = good & (cb > 0) & (cl > LEAST * cb)
    single = np.where(M > 0, LEAST, 0.0)
    y1, b1 = yb + single * yl, bb + 2 * single * bl + single**2 * ll
    chi = np.where(
        both, yy - cb * yb - cl * yl, yy - np.maximum(y1, 0) ** 2 / np.maximum(b1, 1e-12)
    )
    edge = (ndtr(0) * 0 + flat[:, _DEPTHS_MM <= 0].max(1))[:, None]
    lp = -0.5 * chi + np.where((M > 0) & ((edge < TISSUE * B) | (not layered)), -50.0, prior)
    lp -= lp.max(1, keepdims=True)
    post = np.exp(lp)
    post /= post.sum(1, keepdims=True)
    mean = post @ X
    var = post @ X**2 - mean**2
    mean, var = mean.reshape(ok.shape), var.reshape(ok.shape)
    DBG.append((zi, R[zi].mean(1), mean.mean(1), nr[zi].mean(1), w0.mean(1), var.mean(1)))
    w = w0 * (den > 0.05) / (1 + var / 4.0)
    new = pos + mean[..., None] * nrm_
    # back to cylindrical about the centre line at the new z
    zn = new[..., 0] / grid.voxel_mm[0]
    cn = np.stack([np.interp(zn, np.arange(len(centre)), centre[:, i]) for i in (0, 1)], -1) * mm
    rel = new[..., 1:] - cn
    return _fit(new[..., 0], np.arctan2(rel[..., 0], rel[..., 1]), np.hypot(rel[..., 0], rel[..., 1]), w, grid)


def _mask(R2, centre, grid):
    nz, ny, nx = grid.shape
    mm = grid.voxel_mm[1]
    yy, xx = np.mgrid[:ny, :nx]
    out = np.zeros(grid.shape, np.float32)
    R = np.sqrt(np.maximum(R2, 0))
    for k in range(nz):
        dy, dx = (yy - centre[k, 0]) * mm, (xx - centre[k, 1]) * mm
        th = np.mod(np.arctan2(dy, dx), 2 * np.pi)
        Rt = np.interp(th, np.r_[_ANGLES, 2 * np.pi], np.r_[R[k], R[k, 0]])
        out[k] = np.clip(0.5 - (np.hypot(dy, dx) - Rt) / mm, 0, 1) * (Rt > 0)
    return out
