/**
 * Imported before TensorFlow, for tests that run other people's graphs on its kernels: oneDNN's convolution of one
 * pixel ends the process on virtual machines that do not report the size of their caches. Our own engine never uses
 * that kernel.
 */
process.env['TF_ENABLE_ONEDNN_OPTS'] = '0';
