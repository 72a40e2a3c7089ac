// The attention map as a layer to lay over the picture: clear where the model did not look, so that the skin stays seen.

const LEAST = 0.1; // opacity at no attention, so that it is seen where the layer lies; at full attention it is 1

/** The answer's palette PNG (base64) as a canvas; null where it cannot be read. */
export async function attentionLayer(base64) {
  try {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const levels = paletteLevels(bytes);
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = document.createElement("canvas");
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const picture = context.getImageData(0, 0, canvas.width, canvas.height);
    const { data } = picture;
    for (let at = 0; at < data.length; at += 4) {
      const level = levels.get((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]) ?? 0;
      data[at + 3] = Math.round(255 * (LEAST + (1 - LEAST) * level));
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  } catch (error) {
    console.warn("the attention map cannot be shown", error);
    return null;
  }
}

/** Colour to attention (0 to 1), from the PNG's own palette: a pixel's index there is its intensity. */
function paletteLevels(bytes) {
  const view = new DataView(bytes.buffer);
  const levels = new Map();
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "PLTE") {
      for (let index = 0; index * 3 < length; index += 1) {
        const colour = at + 8 + index * 3;
        levels.set((bytes[colour] << 16) | (bytes[colour + 1] << 8) | bytes[colour + 2], index / (length / 3 - 1));
      }
      return levels;
    }
    at += 12 + length;
  }
  throw new Error("the PNG has no palette");
}

/** Where the square that the model saw lies in a picture of this size, as shares: {left, top, width, height}. */
export function centreSquare(width, height) {
  const side = Math.min(width, height);
  return { left: (width - side) / 2 / width, top: (height - side) / 2 / height, width: side / width, height: side / height };
}
