-- meddiff for Lmod: put this folder below one of MODULEPATH and set `prefix` to what
-- `cmake --install build --prefix` was given.
local prefix = "/opt/meddiff"

help([[
meddiff: from about thirty annotated medical images to thousands of image-mask pairs.
    meddiff doctor              what this machine lacks
    meddiff --help, man meddiff
]])
whatis("Name: meddiff")
whatis("Version: 0.1.0")
whatis("Description: image-mask pairs from about thirty annotated medical images")

conflict("meddiff")
-- The MPI library and HDF5 that it was built with, by the site's names:
-- depends_on("openmpi", "hdf5")

prepend_path("PATH", pathJoin(prefix, "bin"))
prepend_path("PKG_CONFIG_PATH", pathJoin(prefix, "lib/pkgconfig"))
setenv("MEDDIFF", pathJoin(prefix, "bin/meddiff"))
-- ranks that share cores must not spin while they wait
setenv("OMP_WAIT_POLICY", "passive")
