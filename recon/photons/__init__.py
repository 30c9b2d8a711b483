"""Monte Carlo of photons: what a gamma camera counts of an activity in an attenuating body.

The front is `montecarlo.photon_counts`. It takes a `Body` (arrays of materials and densities on an upright grid with
cubic voxels), an activity on the same grid, a `Camera` (acquisition, windows, crystal, calibration) and a
`MonteCarloRun` (histories, seed). It returns expected counts in every view and window, separately for primary photons
and for each order of scatter. The package uses arrays, numbers and the types of recon alone, so that a reconstruction
can call it: its image in cps/mL is an activity with `cps_per_unit=1`.

Modules: `tissues` of recon names the materials, `cross_sections` tabulates them, `transport` follows photons,
`forced_detection` projects their births and scatters into the views, `detector` holds the camera's response, and
`penetration` approximates the photons above 400 keV, which are not transported.
"""
