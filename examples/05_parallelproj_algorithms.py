"""
Algorithms of your own, with and without parallelproj
=====================================================

``SystemModel`` is a linear operator: ``forward``, its exact transpose ``adjoint``, and ``subset``, plain arrays in and
out. Every iterative algorithm can be written on these in a few lines: here MLEM, SIRT and primal-dual hybrid gradient
(PDHG). Where parallelproj is installed, the operator is handed to it, and its likelihood drives the same MLEM.

Run: ``python examples/05_parallelproj_algorithms.py [--tiny]``
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from spectac.recon import Acquisition, Collimator, SystemModel, default_grid
from spectac.recon.parallelproj_operator import as_linear_operator
from spectac.simulate.analytic_head import on_grid

# %%
# An analytic head on the reconstruction's own voxels, and counts of its primary photons with noise. The attenuation map
# is inside of the operator.

tiny = "--tiny" in sys.argv
side, pixel_mm, views, iterations = (30, 8.8, 24, 12) if tiny else (60, 4.4, 60, 60)
acquisition = Acquisition(
    np.arange(views) * 360.0 / views,
    np.full(views, 140.0),
    (side, side),
    (pixel_mm, pixel_mm),
    np.full(views, 20.0),
    "Tc-99m",
    Collimator.from_line(1.5, 0.017),
)
head = on_grid(default_grid(acquisition), 140.511, subsamples=2)
operator = SystemModel(acquisition, head.mu.grid, mu=head.mu)
expected = operator.forward(head.activity)
counts_per_unit = 3e6 / expected.sum(dtype=np.float64)
counts = np.random.default_rng(1).poisson(expected * counts_per_unit).astype(np.float32)
truth = head.activity * counts_per_unit
print(f"{operator.image_shape} voxels to {operator.projections_shape} bins, {counts.sum():.3g} counts")

# %%
# The adjoint is the transpose of the forward projection, not a rotation back: both sides of ``<A x, y> = <x, A' y>``
# agree to the precision of the arithmetic.

random = np.random.default_rng(2)
x = random.standard_normal(operator.image_shape).astype(np.float32)
y = random.standard_normal(operator.projections_shape).astype(np.float32)
ax, aty = operator.forward(x), operator.adjoint(y)
gap = abs(np.vdot(ax, y).astype(float) - np.vdot(x, aty).astype(float))
print(f"adjoint: {gap / (np.linalg.norm(ax) * np.linalg.norm(y)):.1e} of |Ax| |y|")

# %%
# Projections and back-projections of ones, which the algorithms share, and the number to compare them by: how much
# worse than an exact fit of every bin the Poisson likelihood is. Noise alone leaves about a half where counts are high.

sensitivity = operator.adjoint(np.ones_like(counts))
seen = sensitivity > 1e-3 * sensitivity.max()
row_sums = operator.forward(np.ones_like(truth))


def loss(image):
    """Kullback-Leibler divergence of the expectation from the counts, per bin."""
    mean = np.maximum(operator.forward(image).astype(np.float64), 1e-9)
    return float((mean - counts + counts * np.log(np.maximum(counts, 1e-9) / mean)).mean())


# %%
# **MLEM** (Shepp and Vardi 1982) multiplies by the back-projected ratio of counts and expectation:
#
# ``f <- f / (A' 1) * A'( y / (A f) )``


def mlem(iterations):
    image = np.where(seen, np.float32(counts.sum() / row_sums.sum()), np.float32(0.0))
    for _ in range(iterations):
        ratio = counts / (operator.forward(image) + np.float32(1e-6))
        image = np.where(seen, image * operator.adjoint(ratio) / np.where(seen, sensitivity, 1), 0.0).astype(np.float32)
    return image


# %%
# **SIRT** goes down the squares of residuals, each bin weighted by one over its row's sum; it knows nothing of counting
# noise, and negative values have to be cut off:
#
# ``f <- max(0, f + A'( (y - A f) / (A 1) ) / (A' 1))``


def sirt(iterations):
    image = np.zeros_like(truth)
    for _ in range(iterations):
        residual = (counts - operator.forward(image)) / np.maximum(row_sums, 1e-6)
        image = np.where(seen, np.maximum(image + operator.adjoint(residual) / np.where(seen, sensitivity, 1), 0), 0)
        image = image.astype(np.float32)
    return image


# %%
# **PDHG** (Chambolle and Pock 2011) has the same likelihood as MLEM, and takes any convex prior in the place of
# "nowhere negative". Its steps need the operator's largest singular value, which a few power iterations give.


def largest_singular_value(steps=20):
    image = np.ones_like(truth)
    for _ in range(steps):
        image = operator.adjoint(operator.forward(image / np.linalg.norm(image)))
    return float(np.sqrt(np.linalg.norm(image)))


def pdhg(iterations):
    norm = largest_singular_value()
    # sigma tau norm^2 < 1. How they share it decides the speed: the dual variable, (expectation - counts) over
    # expectation, is about a tenth, the image about the level that explains all counts.
    balance = 10.0 * float(counts.sum() / row_sums.sum())
    sigma, tau = 0.99 / (balance * norm), 0.99 * balance / norm
    image, dual = np.zeros_like(truth), np.zeros_like(counts)
    leading = image
    for _ in range(iterations):
        # The proximal map of the convex conjugate of m - y log m.
        raised = dual + sigma * operator.forward(leading)
        dual = (0.5 * (1 + raised - np.sqrt((raised - 1) ** 2 + 4 * sigma * counts))).astype(np.float32)
        following = np.maximum(image - tau * operator.adjoint(dual), 0.0).astype(np.float32)
        leading = 2 * following - image
        image = following
    return image


images = {"MLEM": mlem(iterations), "SIRT": sirt(iterations), "PDHG": pdhg(iterations)}

# %%
# parallelproj (conda-forge: ``conda env create -f environment.yml``) has likelihoods, priors and operators that
# combine. ``as_linear_operator`` is all it needs to work on SPECT. MLEM is a descent along the gradient, preconditioned
# by the image over the sensitivity: the result is ours to rounding.

try:
    from parallelproj.functions import C2AffineObjective, NegPoissonLogL
except ImportError:
    print("parallelproj is not installed: its part is left out")
else:
    likelihood = NegPoissonLogL(counts, exact=True)
    objective = C2AffineObjective(likelihood, as_linear_operator(operator), np.full_like(counts, 1e-6))
    image = np.where(seen, np.float32(counts.sum() / row_sums.sum()), np.float32(0.0))
    for _ in range(iterations):
        step = np.where(seen, image / np.where(seen, sensitivity, 1), 0.0).astype(np.float32)
        image = np.maximum(image - step * objective.gradient(image), 0.0)
    images["parallelproj's MLEM"] = image
    print(
        f"largest difference to our MLEM: {np.abs(image - images['MLEM']).max() / images['MLEM'].max():.1e} of the peak"
    )

for name, image in images.items():
    error = np.sqrt(((image - truth)[seen] ** 2).sum() / (truth[seen] ** 2).sum())
    print(f"{name:20} {iterations} iterations: loss {loss(image):.3f} per bin, RMS error {error:.1%}")

# %%
# The slice with the brightest striatum. More iterations fit more of the noise.

row = int(truth.max(axis=(1, 2)).argmax())
figure, axes = plt.subplots(1, len(images) + 1, figsize=(3 * (len(images) + 1), 3), layout="constrained")
for panel, (name, values) in zip(axes, {"truth": truth, **images}.items(), strict=True):
    panel.imshow(values[row], cmap="inferno", vmin=0, vmax=float(truth[row].max()))
    panel.set_title(name)
    panel.set_axis_off()
plt.show()
