/** Memory that is used again and again, because the kernel takes long to clear new pages. */

/** Of a patch of 512 px at twice the resolution, with some room. */
const KEPT_BYTES = 8 * 1024 * 1024;

/** @returns the same memory at each call, and other memory for sizes above 8 MB. */
export function createKeptMemory(): (byteSize: number) => Buffer {
  let kept = Buffer.alloc(0);
  return (byteSize) => {
    if (byteSize > KEPT_BYTES) return Buffer.allocUnsafeSlow(byteSize);
    if (byteSize > kept.length) kept = Buffer.allocUnsafeSlow(byteSize);
    return kept.subarray(0, byteSize);
  };
}
