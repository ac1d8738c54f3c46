/**
 * The golden image: a picture that anyone can generate from a formula, so that a client can verify how it loads weights
 * and prepares pixels by comparing one embedding.
 */

/**
 * uint8 `[1, S, S, 3]`: red rises to the right, green downwards, blue in rings; every value is an exact integer
 * formula.
 */
export function goldenPixels(imageSizePx: number): Uint8Array {
  const pixels = new Uint8Array(imageSizePx * imageSizePx * 3);
  for (let row = 0; row < imageSizePx; row += 1) {
    for (let column = 0; column < imageSizePx; column += 1) {
      const at = (row * imageSizePx + column) * 3;
      pixels[at] = Math.floor((255 * column) / (imageSizePx - 1));
      pixels[at + 1] = Math.floor((255 * row) / (imageSizePx - 1));
      pixels[at + 2] = (row * row + column * column) % 256;
    }
  }
  return pixels;
}
