"""The operators on NVIDIA GPUs: kernels compiled at run time, their launches, their static costs.

`kernels.backend` registers them with torch where NVRTC is found. The same launches run the same
kernels on the CPU through a host shim (`kernels.cuda.shim`), for tests.
"""
