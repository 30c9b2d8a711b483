"""Three numbers of a mu-map, moved by the emission data: global scale, skull scale, shift of the outline.

Emission data alone do not determine a map (the activity explains what the map does not), so nothing else is free, and
what the data say is weighed against what is known of the map and against the errors of the method itself.

For theta near (1, 1, 0) the activity is profiled out: f(theta) is OSEM at about 4 mm with blur in the model, of the
same few iterations from the same uniform start for every theta. The score is the derivative of half the deviance at
f(theta): <gradient_mu(f, dL/dp), d mu/d theta> by the envelope theorem, plus <df/d theta, dL/df>, which vanishes only
for a converged f. What is left at the true map (the iterations stop early, and f follows the noise) is measured on the
spot: the expectation of f is taken as a study with Poisson noise of its own, analysed in the same way, and its score is
subtracted, for its map is known. One damped Gauss-Newton step follows; its curvature is that of the envelope gradient.

It does not help so far and is off by default. Measured on the analytic head, I-123, 60 views, 3 million counts, primary
photons only, on maps that are the truth or the truth with one number wrong; ranges are not statistics, for each noisy
case is one to three realisations:

- 8.8 mm, data of the model itself, no noise, 300 iterations: half the deviance is least at the truth. It rises by 3.5
  for 3 % of scale, 1.0 for 15 % of skull, 33-40 for 3 mm. Alone they would be known to 1.1 %, 12 % and 0.3 mm; but the
  curvatures of scale and skull are correlated by 0.7 and of scale and shift by 0.8: 3 mm look like 8 % of scale.
- f stops early: by the envelope gradient alone the scale's optimum, the truth being given, moves by -4.8, -2.3, -1.1
  and -0.8 % after 4, 10, 30 and 300 iterations. With the df/d theta term the rise puts it at +0.3 % after 10.
- 4.4 mm, the same, all three free with their priors: the truth is moved by +1.8 % of scale and -2.2 mm after 4
  iterations and by +4.0 % and -2.7 mm after 10; a scale of 0.95 by +4.4 and +5.4 %. An image continued from the
  starting map (2 iterations after 10) gives +0.6 and +3.5 %: less offset, less of the answer.
- Data of 2.2 mm pixels summed to 4.4 mm, no noise: the voxels alone act as -0.1 % of scale, +18 % of skull, -3.8 mm of
  shift, each alone, and all three together run away to +14 % and -9 mm: edges decide the shift, and edges are voxels.
- The same with noise: f follows the noise, which reads as +4.4 and +5.1 % of scale. Fitting half of the counts and
  judging by the other half turns this into -7 %; subtracting the simulated study leaves -2.0, -0.8 and -1.6 %.

Hence the damping by SCORE_ERROR. What `refined` then does, one realisation each: the map's sum over its true sum, and
the mean absolute error of the map over its mean, before and after:

    the truth          1.000 -> 1.007, 1.010    0.0 -> 0.7, 2.4 %
    scale x 0.95       0.950 -> 1.000           5.0 -> 6.1 %      (as +2.2 %, skull +6 %, +0.9 mm)
    scale x 1.05       1.050 -> 0.968           5.0 -> 8.3 %      (as -3.2 %, skull -3 %, -1.4 mm)
    skull x 0.8        0.984 -> 1.014           1.6 -> 5.5 %
    outline + 3 mm     1.091 -> 1.064          16.7 -> 18.3 %

An attenuation wrong by 5 % or more in total moves the right way, by 0.3 to 1.6 times the error; which of the three
numbers was wrong is not told apart, and a map good to 2 % is made worse. SCORE_ERROR was set on the same head (three of
the noise realisations), and scatter estimates add errors that are not in these numbers. 8 reconstructions at about
4 mm: 3.7 s of two cores for 60 views (12 s of wall time on a machine three times overbooked).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter, map_coordinates, spline_filter

from spectac.recon import geometry
from spectac.recon.attenuation import Solver
from spectac.recon.em import FEWEST_VIEWS, osem
from spectac.recon.errors import InputError
from spectac.recon.pipeline import preview_factors
from spectac.recon.resample import on_field, rebin, rebin_acquisition
from spectac.recon.system import SystemModel
from spectac.recon.tissues import water_per_cm
from spectac.recon.types import Array, MuMap

SOFT = 1.08
"""Soft tissue ends at this multiple of water: brain and muscle lie at 1.03-1.05 of it, cranium at 1.6."""

RIGID_MM, RELAX_MM = 12.0, 40.0
"""Depths down to which all moves as the outline does (scalp and skull as one), and at which the shift has died away."""

NORMAL_MM = 6.0
"""Gaussian sigma that rounds the distance to the outline before its gradient gives the normals."""

PRIOR = (0.03, 0.15, 3.0)
"""Standard deviations of scale, skull scale and shift in mm. Soft tissue is water to a few per cent, bone's density
differs between people by some 15 %, and an outline found in the data is 3 mm off or better in most heads."""

STEP = (0.015, 0.075, 1.5)
"""Half a standard deviation: differences are taken over the range in which the answer is looked for."""

SCORE_ERROR = (165.0, 28.0, 24.0)
"""Size of the calibrated score at the true map, per unit of theta: 1.7 % of scale, some 20 % of skull and 4 mm, times
the curvatures, in three noisy studies of 3 million counts (module docstring)."""

SCORE_COUNTS = 3e6
"""Counts of those studies. Errors of the model grow with the counts; below, the noise keeps them where they are."""

ITERATIONS, SUBSETS = 4, 10
START = (1.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class MovableMap:
    """A mu-map as a smooth function of theta = (scale, skull scale, shift in mm), nowhere negative.

    mu = scale * (soft + skull scale * bone): `bone` is what lies above SOFT times water, `soft` the rest. Both are read
    at x - shift * w(x) n(x), with n the outward normal of the outline (half of water, cavities filled slice by slice)
    and w falling linearly from 1 at a depth of RIGID_MM to 0 at RELAX_MM. What cubic splines interpolate is the
    square root: its square is smooth in the shift, at 0 exactly the map, and never negative. The price: a sharp skull
    on 4 mm loses 2 % of its bone where it moves outwards by 3 mm and 6 % inwards; soft tissue 0.5 %.
    """

    roots: tuple[Array, Array]
    splines: tuple[Array, Array]
    moved: Array
    points: Array
    outward: Array

    @classmethod
    def of(cls, mu: MuMap) -> "MovableMap":
        """The map made movable; InputError where nothing in it is as dense as half of water."""
        per_cm, grid = mu.per_cm.astype(np.float64), mu.grid
        water = water_per_cm(mu.energy_kev)
        body = per_cm > 0.5 * water
        if not body.any():
            raise InputError(
                f"the mu-map to refine has no voxel above half of water ({0.5 * water:.3g} /cm at "
                f"{mu.energy_kev:g} keV): its largest value is {per_cm.max():.3g} /cm"
            )
        depth_mm = _depth_mm(np.stack([binary_fill_holes(plane) for plane in body]), grid.voxel_mm)
        sigma = [NORMAL_MM / length for length in grid.voxel_mm]
        slope = np.stack(np.gradient(gaussian_filter(depth_mm, sigma, mode="nearest"), *grid.voxel_mm))
        # A distance grows by 1 mm per mm; far less marks the head's middle, which has no normal.
        normal = -slope / np.maximum(np.sqrt((slope**2).sum(axis=0)), 0.3)
        share = np.clip((RELAX_MM - depth_mm) / (RELAX_MM - RIGID_MM), 0.0, 1.0)
        moved = np.flatnonzero((share > 0) & (depth_mm > -RELAX_MM))
        voxels = normal * share / np.reshape(grid.voxel_mm, (3, 1, 1, 1))
        soft = np.minimum(per_cm, SOFT * water)
        roots = np.sqrt(soft), np.sqrt(per_cm - soft)
        return cls(
            roots,
            (spline_filter(roots[0], 3, mode="nearest"), spline_filter(roots[1], 3, mode="nearest")),
            moved,
            np.stack(np.unravel_index(moved, grid.shape)).astype(np.float64),
            voxels.reshape(3, -1)[:, moved],
        )

    def at(self, theta: Array) -> Array:
        """Map (z, y, x) in 1/cm, float64."""
        soft, bone = self._parts(theta[2])
        return np.asarray(theta[0] * (soft + theta[1] * bone))

    def derivatives(self, theta: Array) -> Array:
        """Derivatives (3, z, y, x) of the map: exact to the scales, central difference over 2 um to the shift."""
        soft, bone = self._parts(theta[2])
        above, below = (self.at(np.array([theta[0], theta[1], theta[2] + step])) for step in (1e-3, -1e-3))
        return np.stack([soft + theta[1] * bone, theta[0] * bone, (above - below) / 2e-3])

    def _parts(self, shift_mm: float) -> tuple[Array, Array]:
        parts = []
        for root, spline in zip(self.roots, self.splines, strict=True):
            read = root.ravel().copy()
            if shift_mm != 0:
                places = self.points - shift_mm * self.outward
                read[self.moved] = map_coordinates(spline, places, order=3, prefilter=False, mode="nearest")
            parts.append((read**2).reshape(root.shape))
        return parts[0], parts[1]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Counts (v, z, u) and expected scatter (0 where there is none) that `system` and a movable map are to explain."""

    system: SystemModel
    counts: Array
    scatter: Array
    shape: MovableMap

    def fitted(self, theta: Array) -> Array:
        """Activity (z, y, x) after ITERATIONS of OSEM from the uniform start."""
        subsets = max(1, min(SUBSETS, self.system.views // FEWEST_VIEWS))
        system = self.system.with_mu(self.shape.at(theta))
        return osem(system, self.counts, iterations=ITERATIONS, subsets=subsets, scatter=self.scatter)

    def loss(self, theta: Array, image: Array) -> tuple[float, Array, Array]:
        """Half the deviance, its derivative (3,) to theta with the image held, and (z, y, x) to the image.

        Bins with expectation 0 say nothing about the map and are left out.
        """
        system = self.system.with_mu(self.shape.at(theta))
        expected = system.forward(image).astype(np.float64) + self.scatter
        counts = self.counts.astype(np.float64)
        ratio = np.divide(counts, expected, out=np.ones_like(expected), where=expected > 0)
        logarithm = np.log(ratio, out=np.zeros_like(ratio), where=ratio > 0)
        value = float((expected - counts + counts * logarithm)[expected > 0].sum())
        residual = 1.0 - ratio
        to_mu = system.gradient_mu(image, residual).astype(np.float64)
        to_theta = np.array([(to_mu * one).sum() for one in self.shape.derivatives(theta)])
        return value, to_theta, system.adjoint(residual)

    def score(self) -> tuple[Array, Array, Array]:
        """Derivative (3,) of the profiled half deviance at START, its curvature (3, 3), and the activity there."""
        start = np.array(START)
        image = self.fitted(start)
        _, slope, to_image = self.loss(start, image)
        total, rows = slope.copy(), []
        for k, step in enumerate(STEP):
            theta = start + step * np.eye(3)[k]
            other = self.fitted(theta)
            total[k] += float(((other - image) * to_image).sum(dtype=np.float64)) / step
            rows.append((self.loss(theta, other)[1] - slope) / step)
        curvature = np.array(rows)
        return total, 0.5 * (curvature + curvature.T), image


def refined(solver: Solver, mu: MuMap, generator: np.random.Generator | None = None) -> tuple[MuMap, tuple[str, ...]]:
    """The map, on its own grid, with the scale, skull scale and outline shift that the photopeak suggests, and notes.

    `generator` draws the noise of the simulated study (default: seed 0, so that a study has one answer). See the module
    for what this can do: it is no substitute for a good map.
    Assumes: scatter in the expectation (solver.projections.scatter) or none in the data; else the notes say so.
    Raises InputError for a map without a body or at another energy, and for an unknown collimator.
    """
    generator = np.random.default_rng(0) if generator is None else generator
    likelihood = _coarse(solver, mu)
    observed, curvature, image = likelihood.score()
    expected = likelihood.system.forward(image).astype(np.float64) + likelihood.scatter
    simulated = Likelihood(
        likelihood.system, generator.poisson(expected).astype(np.float32), likelihood.scatter, likelihood.shape
    )
    offset, second, _ = simulated.score()
    step = damped_step(observed - offset, 0.5 * (curvature + second), float(likelihood.counts.sum(dtype=np.float64)))
    theta = np.array(START) + step
    notes = [
        f"the map was refined by the emission data: global scale {theta[0]:.3f}, skull scale {theta[1]:.3f}, "
        f"outline shift {theta[2]:+.1f} mm"
    ]
    if not solver.scatter_corrected:
        notes.append(
            "the map was refined without a scatter estimate: scatter in the projections reads as a lower attenuation; "
            "give scatter windows"
        )
    return MuMap(MovableMap.of(mu).at(theta), mu.grid, mu.energy_kev), tuple(notes)


def damped_step(score: Array, curvature: Array, counts: float) -> Array:
    """Change (3,) of theta: the linear estimate of least mean square error, at most two prior deviations each.

    score = -H step + error, with step ~ N(0, P) of PRIOR and error ~ N(0, S), S = SCORE_ERROR^2 grown with the counts
    plus H's own diagonal (the counting noise of a score): step = -P H (H P H + S)^-1 score. H is not inverted, so a
    direction that the data leave open does not move.
    """
    error = np.array(SCORE_ERROR) * max(1.0, counts / SCORE_COUNTS)
    prior = np.diag(np.square(PRIOR))
    noise = np.diag(error**2 + np.maximum(np.diag(curvature), 0.0))
    step = -prior @ curvature @ np.linalg.solve(curvature @ prior @ curvature + noise, score)
    return np.clip(step, -2.0 * np.array(PRIOR), 2.0 * np.array(PRIOR))


def _coarse(solver: Solver, mu: MuMap) -> Likelihood:
    """The solver's photopeak rebinned to the pixel nearest 4 mm, as previews are, with blur in the model."""
    projections = solver.projections
    factors = preview_factors(projections.acquisition.pixel_mm)
    acquisition = rebin_acquisition(projections.acquisition, *factors)
    grid = geometry.default_grid(acquisition)
    near = MuMap(on_field(mu.per_cm, mu.grid, grid), grid, mu.energy_kev)
    system = SystemModel(acquisition, grid, mu=near, energy_kev=solver.energy_kev)
    scatter = np.zeros_like(projections.counts) if projections.scatter is None else projections.scatter
    return Likelihood(system, rebin(projections.counts, *factors), rebin(scatter, *factors), MovableMap.of(near))


def _depth_mm(body: Array, voxel_mm: tuple[float, float, float]) -> Array:
    """Distance (z, y, x) in mm under the surface of a mask, negative outside, 0 between the voxels on either side."""
    half = 0.5 * voxel_mm[1]
    inside = distance_transform_edt(body, sampling=voxel_mm) - half
    outside = distance_transform_edt(~body, sampling=voxel_mm) - half
    return np.where(body, inside, -outside)
