"""meddiff for Spack: packages/meddiff/package.py of a repository of your own,
    spack repo create my-repo && mkdir -p my-repo/packages/meddiff && cp package.py my-repo/packages/meddiff/
    spack repo add my-repo && spack install meddiff +cuda cuda_arch=90
Not tried with Spack itself: packaging/README.md.
"""

from spack.package import *


class Meddiff(CMakePackage, CudaPackage):
    """Turns about thirty annotated medical images into thousands of image-mask pairs: fine-tunes Stable
    Diffusion on the lesions, draws masks, paints, judges, and leaves one HDF5 file."""

    # There is no release yet: spack dev-build meddiff@main in a clone, or set `git` to where yours lies.
    version("main", branch="main")

    license("Apache-2.0")

    variant("cuda", default=False, description="Compute on NVIDIA GPUs, from cuda_arch 80 on")
    variant("tests", default=False, description="Build the tests")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("cxx", type="build", when="+tests")
    depends_on("cmake@3.22:", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("hdf5@1.10.7: +mpi")
    depends_on("onednn@2.6: cpu_runtime=omp")
    depends_on("netlib-lapack +lapacke")
    depends_on("libpng")
    depends_on("libjpeg-turbo")
    depends_on("jansson")
    depends_on("expat")
    depends_on("libconfig")
    depends_on("nettle")
    depends_on("cmocka", type="build", when="+tests")
    depends_on("cudnn@9:", when="+cuda")
    depends_on("nccl", when="+cuda")

    conflicts("cuda_arch=none", when="+cuda", msg="name the GPU: cuda_arch=80, 90, ...")

    def cmake_args(self):
        args = [
            self.define_from_variant("MEDDIFF_CUDA", "cuda"),
            self.define_from_variant("MEDDIFF_TESTS", "tests"),
            self.define("MEDDIFF_ARCH", ""),  # Spack's compiler wrapper names the processor
        ]
        if self.spec.satisfies("+cuda"):
            args.append(self.builder.define_cuda_architectures(self))
        return args

    @run_after("install")
    @on_package_attributes(run_tests=True)
    def check_install(self):
        Executable(self.prefix.bin.meddiff)("--version")
