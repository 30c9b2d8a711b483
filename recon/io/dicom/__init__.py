"""DICOM files read and written: NM (raw projections, reconstructions) and CT.

- nm.py, ct.py: the front doors
- elements.py: opens a file and reads its elements with checks; allowed_values.py: text that may be written
- patient_elements.py: patient, study and posture; nm_start_and_injection.py: times and dose
- nm_kind.py: kind of file, corrections; nm_nuclide.py, nm_energy_windows.py, nm_collimator.py
- nm_frames.py: vectors of the frames; nm_rotation.py: sense and step; nm_view_angles.py; nm_radii.py
- nm_orientation.py: rows and columns; nm_axis_position.py: the rotation axis in patient space
- nm_pixels.py: stored pixels, also of CT; nm_rescale.py: slope, intercept and unit, read and written
- nm_read_projections.py: one file of projections; nm_merge.py: several files; nm_read_image.py
- nm_write_header.py, nm_write_projections.py, nm_write_image.py, nm_write_pytomography.py
- ct_slice.py, ct_stack.py: slices and the volume; ct_write.py; upright.py: directions and order of axes
"""
