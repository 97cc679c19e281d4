// Pixels as a screen has them and as they are sent.

/** @param {Uint8ClampedArray} rgba @returns {Uint8Array} rgb */
export function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}

/**
 * Opaque pixels in their place.
 * @param {Uint8Array} rgb @param {Uint8ClampedArray} rgba @param {number} first byte of the place
 */
export function placeOpaque(rgb, rgba, first) {
  for (let from = 0, to = first; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
    rgba[to + 3] = 255;
  }
}
