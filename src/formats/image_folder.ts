/**
 * Folders of images as data sets: the `./images` export. It needs the npm package image-js, which is loaded at the first image.
 *
 * @module
 */

import { boolean, knownOptions, number, oneOf, textGiven } from "../config.ts";
import { readBytes, readFault } from "../data/files.ts";
import { permutation } from "../data/random.ts";
import type { Data, Table } from "../data/table.ts";
import { ConfigError, DataError } from "../errors.ts";

/** File names that are taken for images. */
const IMAGES = /\.(png|jpe?g)$/i;

/** Options of {@linkcode imageFolder}. */
export interface ImageFolderOptions {
  /** Height and width that images are brought to. Default: as they are, which must be alike. */
  readonly size?: readonly [number, number];
  /** `"rgb"` for three channels, `"grey"` for one. Default `"rgb"`. */
  readonly colour?: "rgb" | "grey";
  /** Whether files that cannot be read are left out. Default `false`. */
  readonly skipBroken?: boolean;
  /** Told of each file that is left out. */
  readonly onSkip?: (file: string, fault: Error) => void;
  /** Told how many images have been read; of a stream how many {@linkcode ImageStream.read} has. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Ends the reading with its reason. */
  readonly signal?: AbortSignal;
}

/** Options of {@linkcode imageStream}. */
export interface ImageStreamOptions extends ImageFolderOptions {
  /** Images of a part. Default 64. */
  readonly partRows?: number;
  /** Seed of an order of its own; whole number from 0. Default 0: classes would come one after another otherwise. */
  readonly seed?: number;
}

/** A folder of images as a stream. */
export interface ImageStream {
  /** The folder's own name. */
  readonly name: string;
  /** Begins a pass: what `train` takes. */
  readonly train: () => AsyncGenerator<Table, void, void>;
  /** Number of images; broken ones, which `skipBroken` leaves out, are counted too. */
  readonly rows: number;
  /** Names of the classes, in the order of their labels. */
  readonly classes: readonly string[];
  /** Paths of the images, in the order of the stream. */
  readonly files: readonly string[];
  /** The folder of test images, `FOLDER/test`, where there is one beside `FOLDER/train`; {@linkcode ImageStream.read} reads it. */
  readonly testFolder?: string;
  /** All images of another folder with the same classes, treated as this one's, such as rows to watch. */
  readonly read: (folder: string) => Promise<Table>;
}

const OPTIONS = ["size", "colour", "skipBroken", "onSkip", "onProgress", "signal"];
const STREAM_OPTIONS = [...OPTIONS, "partRows", "seed"];

/**
 * Reads a folder of PNG and JPEG images into memory: one folder for each class, `FOLDER/CLASS/*.png`, or those in `FOLDER/train`
 * and `FOLDER/test`. Classes are in the order of their names, images too.
 *
 * @param folder the folder
 * @param options size, colours, what to do with broken files
 * @returns rows of shape [height, width, channels] with labels
 * @throws {DataError} where a file is broken (named), images differ in size, or there are fewer than two classes
 * @throws {ConfigError} where an option cannot be used
 *
 * @example
 * ```ts ignore
 * import { imageFolder } from "@leanprop/leanprop/images";
 * const data = await imageFolder("flowers", { size: [64, 64] });
 * ```
 */
export async function imageFolder(folder: string, options: ImageFolderOptions = {}): Promise<Data> {
  knownOptions("imageFolder", options, OPTIONS);
  const { train: trainFolder, test: testFolder } = await partsOf(folder);
  const name = nameOf(folder);
  const train = await list(trainFolder);
  const whole = await readAll(train, options);
  if (testFolder === undefined) return { name, train: whole };
  const test = await listAlike(testFolder, { classes: train.classes, of: "train" });
  const { rows, features, targets, shape } = await readAll(test, options, whole.shape);
  return { name, train: whole, test: { rows, features, targets, shape } };
}

/**
 * A folder of images that does not fit into memory: images are decoded while the network trains. The layout is that of
 * {@linkcode imageFolder}: of a folder with `train` in it that is the stream, and `test` is left to {@linkcode ImageStream.read}.
 *
 * @param folder the folder
 * @param options size, colours, order
 * @returns the stream
 * @throws {DataError} where a file is broken (named, in the middle of training) or there are fewer than two classes
 * @throws {ConfigError} where an option cannot be used
 */
export async function imageStream(folder: string, options: ImageStreamOptions = {}): Promise<ImageStream> {
  knownOptions("imageStream", options, STREAM_OPTIONS);
  const { partRows = 64, seed = 0, onProgress, ...rest } = options;
  number("imageStream.partRows", partRows, { min: 1, whole: true });
  const { train: trainFolder, test: testFolder } = await partsOf(folder);
  const found = await list(trainFolder);
  const order = permutation(found.files.length, seed);
  const files = Array.from(order, (index) => found.files[index]!);
  // Images are as large as the first one in all parts, and a broken file is told of once, whatever the number of passes.
  const known: Known = { broken: new Set() };
  async function* train(): AsyncGenerator<Table, void, void> {
    for (let from = 0; from < files.length; from += partRows) {
      const part = await read({ ...found, files: files.slice(from, from + partRows) }, rest, known);
      if (part !== undefined && part.rows > 0) yield part;
    }
  }
  return {
    name: nameOf(folder),
    train,
    rows: files.length,
    classes: found.classes,
    files: files.map(({ path }) => path),
    ...(testFolder !== undefined && { testFolder }),
    read: async (folder) => {
      const other = await listAlike(folder, { classes: found.classes, of: trainFolder });
      return await readAll(other, { ...rest, ...(onProgress && { onProgress }) }, known.shape);
    },
  };
}

/** The folders of images to train on and to test on; without a folder `train`, all images are to train on. */
async function partsOf(folder: string): Promise<{ train: string; test?: string }> {
  textGiven("folder", folder, "the path of a folder");
  if (!await isFolder(`${folder}/train`)) return { train: folder };
  const test = `${folder}/test`;
  return { train: `${folder}/train`, ...(await isFolder(test) && { test }) };
}

function nameOf(folder: string): string {
  return folder.split(/[/\\]/).findLast((word) => word !== "") ?? "images";
}

/** The images of a folder. */
interface Listing {
  readonly folder: string;
  readonly classes: readonly string[];
  readonly files: readonly { readonly path: string; readonly label: number }[];
}

async function list(folder: string): Promise<Listing> {
  const classes: string[] = [];
  const files: { path: string; label: number }[] = [];
  for (const name of await names(folder, (entry) => entry.isDirectory)) {
    const images = await names(`${folder}/${name}`, (entry) => entry.isFile && IMAGES.test(entry.name));
    if (images.length === 0) continue;
    files.push(...images.map((image) => ({ path: `${folder}/${name}/${image}`, label: classes.length })));
    classes.push(name);
  }
  if (classes.length < 2) {
    throw new DataError(folder, "at least two folders with PNG or JPEG files, one for each class", `${classes.length}`);
  }
  return { folder, classes, files };
}

/** The images of a folder that must have the classes of another one. */
async function listAlike(
  folder: string,
  { classes, of }: { readonly classes: readonly string[]; readonly of: string },
): Promise<Listing> {
  const found = await list(folder);
  if (String(found.classes) === String(classes)) return found;
  throw new DataError(folder, `the classes of ${of} (${classes.join(", ")})`, found.classes.join(", "));
}

async function names(folder: string, wanted: (entry: Deno.DirEntry) => boolean): Promise<string[]> {
  const found: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) if (wanted(entry)) found.push(entry.name);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) throw new DataError(folder, "a folder", "nothing there", { cause });
    if (cause instanceof Deno.errors.NotADirectory) throw new DataError(folder, "a folder", "a file", { cause });
    throw readFault(folder, cause);
  }
  return found.sort();
}

async function isFolder(path: string): Promise<boolean> {
  return await Deno.stat(path).then((stat) => stat.isDirectory, () => false);
}

/** What earlier parts of a folder have shown. */
interface Known {
  /** Shape of an image. */
  shape?: readonly number[];
  /** Paths of files that are left out. */
  readonly broken: Set<string>;
}

/** Reads all files into one table, with images as large as those of `shape` where it is known. */
async function readAll(
  listing: Listing,
  options: ImageFolderOptions,
  shape?: readonly number[],
): Promise<Table> {
  const table = await read(listing, options, { ...(shape && { shape }), broken: new Set() });
  if (table === undefined) throw new DataError(listing.folder, "at least one image that can be read", "none");
  return table;
}

/** Reads files into one table; nothing where no image has been read yet that would say how large they are. */
async function read(
  { classes, files }: Listing,
  options: ImageFolderOptions,
  known: Known,
): Promise<Table | undefined> {
  const colour = oneOf("colour", options.colour ?? "rgb", ["rgb", "grey"]);
  const skipBroken = boolean("skipBroken", options.skipBroken ?? false);
  const size = options.size?.map((length, axis) =>
    number(`size[${axis}]`, length, { min: 1, max: 65_535, whole: true })
  );
  if (size && size.length !== 2) throw new ConfigError("size", "height and width, such as [64, 64]", options.size);
  const channels = colour === "rgb" ? 3 : 1;
  if (size) known.shape = [...size, channels];
  const pixels: Uint8Array[] = [];
  const labels: number[] = [];
  for (const { path, label } of files) {
    options.signal?.throwIfAborted();
    if (known.broken.has(path)) continue;
    try {
      const image = await decodeImage(path, { colour, size });
      const found = [image.height, image.width, channels];
      const shape = known.shape ??= found;
      if (String(found) !== String(shape)) {
        const expected = `an image of ${shape[0]}×${shape[1]} like the first one, or size as an option`;
        throw new DataError(path, expected, `${found[0]}×${found[1]}`);
      }
      pixels.push(image.pixels);
      labels.push(label);
    } catch (fault) {
      if (!skipBroken || !(fault instanceof DataError)) throw fault;
      known.broken.add(path);
      options.onSkip?.(path, fault);
    }
    options.onProgress?.(pixels.length, files.length);
  }
  const { shape } = known;
  if (shape === undefined) return undefined;
  const length = shape.reduce((product, axis) => product * axis, 1);
  const features = new Uint8Array(pixels.length * length);
  pixels.forEach((image, row) => features.set(image, row * length));
  const targets = {
    kind: "labels",
    classes: classes.length,
    values: Uint32Array.from(labels),
    names: classes,
  } as const;
  return { rows: pixels.length, shape, features, targets };
}

/** One image as bytes: height × width × channels. The decoder is loaded here. */
async function decodeImage(
  path: string,
  { colour, size }: { readonly colour: "rgb" | "grey"; readonly size: readonly number[] | undefined },
): Promise<{ height: number; width: number; pixels: Uint8Array }> {
  const bytes = await readBytes(path);
  const { decode } = await import("image-js");
  try {
    let image = decode(bytes);
    if (image.bitDepth !== 8) image = image.convertBitDepth(8);
    const model = colour === "rgb" ? "RGB" : "GREY";
    if (image.colorModel !== model) image = image.convertColor(model);
    const [height, width] = size ?? [image.height, image.width];
    if (height !== image.height || width !== image.width) image = image.resize({ height: height!, width: width! });
    return { height: image.height, width: image.width, pixels: new Uint8Array(image.getRawImage().data) };
  } catch (cause) {
    throw new DataError(path, "a PNG or JPEG image", `a damaged one (${(cause as Error).message})`, { cause });
  }
}
