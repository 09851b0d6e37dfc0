/**
 * Layers of images: shape [height, width, channels].
 *
 * @module
 */

import { boolean, knownOptions, number } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { checkInit, type Init, type ParameterArray } from "./init.ts";

/** One number for both directions, or one downwards and one to the right. */
export type Pair = number | readonly [number, number];

/** Options of {@linkcode conv2d}. */
export interface Conv2dOptions {
  /** Height and width of the kernel. Default 3. */
  readonly kernel?: Pair;
  /** Steps of the kernel. Default 1. */
  readonly stride?: Pair;
  /** Rows and columns of zeros around the image, or `"same"` for results as large as the images. Default 0. */
  readonly padding?: Pair | "same";
  /** Groups of channels that do not see each other; as many as channels for a depthwise convolution. Default 1. */
  readonly groups?: number;
  /** Whether a bias is added. Default `true`. */
  readonly bias?: boolean;
  /** Initial weights: a rule, or filters × channels of a group × height × width numbers. Default `"heNormal"`. */
  readonly weightInit?: Init | ParameterArray;
  /** Initial bias: a rule, or one number a filter. Default `"zeros"`. */
  readonly biasInit?: Init | ParameterArray;
}

/** Convolution. Parameters: `weight` (filters × channels of a group × height × width), `bias` (filters). */
export interface Conv2dLayer {
  /** The kind of layer. */
  readonly kind: "conv2d";
  /** Channels of the result. */
  readonly filters: number;
  /** Height and width of the kernel. */
  readonly kernel: readonly [number, number];
  /** Steps of the kernel. */
  readonly stride: readonly [number, number];
  /** Rows and columns of zeros around the image. */
  readonly padding: readonly [number, number];
  /** Groups of channels. */
  readonly groups: number;
  /** Whether a bias is added. */
  readonly bias: boolean;
  /** Initial weights. */
  readonly weightInit: Init | ParameterArray;
  /** Initial bias. */
  readonly biasInit: Init | ParameterArray;
}

/** Options of {@linkcode maxPool2d} and {@linkcode avgPool2d}. */
export interface PoolOptions {
  /** Steps of the window. Default: its size, so that windows do not overlap. */
  readonly stride?: Pair;
  /** Rows and columns around the image, fewer than the window has. Default 0. */
  readonly padding?: Pair;
}

/** Pooling under a window. */
export interface PoolLayer {
  /** The kind of layer. */
  readonly kind: "maxPool2d" | "avgPool2d";
  /** Height and width of the window. */
  readonly kernel: readonly [number, number];
  /** Steps of the window. */
  readonly stride: readonly [number, number];
  /** Rows and columns around the image. */
  readonly padding: readonly [number, number];
}

/** Drops whole channels in training. */
export interface Dropout2dLayer {
  /** The kind of layer. */
  readonly kind: "dropout2d";
  /** Probability to drop. */
  readonly rate: number;
}

/** The mean of each channel. */
export interface GlobalAvgPool2dLayer {
  /** The kind of layer. */
  readonly kind: "globalAvgPool2d";
}

/**
 * A convolution of images (cross-correlation, as everywhere in machine learning), dilation 1.
 *
 * @param filters channels of the result, from 1
 * @param options kernel, stride, padding, groups, bias and initial values
 * @returns the layer; images of height h give ⌊(h + 2 · padding − kernel) / stride⌋ + 1 rows
 * @throws {ConfigError} where an option cannot be used
 */
export function conv2d(filters: number, options: Conv2dOptions = {}): Conv2dLayer {
  knownOptions("conv2d", options, ["kernel", "stride", "padding", "groups", "bias", "weightInit", "biasInit"]);
  const kernel = pair("conv2d.kernel", options.kernel ?? 3, 1);
  const stride = pair("conv2d.stride", options.stride ?? 1, 1);
  return {
    kind: "conv2d",
    filters: number("conv2d.filters", filters, { min: 1, whole: true }),
    kernel,
    stride,
    padding: convPadding(options.padding ?? 0, { kernel, stride }),
    groups: number("conv2d.groups", options.groups ?? 1, { min: 1, whole: true }),
    bias: boolean("conv2d.bias", options.bias ?? true),
    weightInit: checkInit("conv2d.weightInit", options.weightInit ?? "heNormal"),
    biasInit: checkInit("conv2d.biasInit", options.biasInit ?? "zeros"),
  };
}

/**
 * The largest value of each channel under a window; padding is never the largest.
 *
 * @param kernel height and width of the window, together at most 255 pixels; default 2
 * @param options stride and padding
 * @returns the layer
 * @throws {ConfigError} where an option cannot be used
 */
export function maxPool2d(kernel: Pair = 2, options: PoolOptions = {}): PoolLayer {
  return pool("maxPool2d", kernel, options);
}

/**
 * The mean of each channel under a window; padding counts as zeros.
 *
 * @param kernel height and width of the window, together at most 255 pixels; default 2
 * @param options stride and padding
 * @returns the layer
 * @throws {ConfigError} where an option cannot be used
 */
export function avgPool2d(kernel: Pair = 2, options: PoolOptions = {}): PoolLayer {
  return pool("avgPool2d", kernel, options);
}

/** The mean of each channel over the whole image: one axis, the channels. */
export function globalAvgPool2d(): GlobalAvgPool2dLayer {
  return { kind: "globalAvgPool2d" };
}

/**
 * Drops each channel of each image with a probability in training and scales the others up (Tompson et al. 2015).
 *
 * @param rate probability to drop, from 0 to below 1
 * @returns the layer
 */
export function dropout2d(rate: number): Dropout2dLayer {
  return { kind: "dropout2d", rate: number("dropout2d.rate", rate, { min: 0, below: 1 }) };
}

function pool(kind: PoolLayer["kind"], size: Pair, options: PoolOptions): PoolLayer {
  knownOptions(kind, options, ["stride", "padding"]);
  const kernel = pair(`${kind}.kernel`, size, 1);
  const stride = pair(`${kind}.stride`, options.stride ?? kernel, 1);
  return { kind, kernel, stride, padding: pair(`${kind}.padding`, options.padding ?? 0, 0) };
}

/** Both numbers of a pair. */
function pair(path: string, value: unknown, min: number): readonly [number, number] {
  if (Array.isArray(value) && value.length !== 2) {
    throw new ConfigError(path, "one number, or two (downwards, to the right)", `${value.length} numbers`);
  }
  const [down, right] = Array.isArray(value) ? value : [value, value];
  return [number(path, down, { min, whole: true }), number(path, right, { min, whole: true })];
}

/** How a kernel goes over an image. */
type Steps = Pick<Conv2dLayer, "kernel" | "stride">;

function convPadding(padding: unknown, steps: Steps): readonly [number, number] {
  if (padding === "same") return same(steps);
  if (typeof padding !== "string") return pair("conv2d.padding", padding, 0);
  // Other frameworks call no padding "valid".
  throw new ConfigError("conv2d.padding", 'a whole number from 0 up, two of them, or "same"', JSON.stringify(padding));
}

/** The padding that keeps height and width. */
function same({ kernel, stride }: Steps): readonly [number, number] {
  const [height, width] = kernel;
  if (height % 2 === 0 || width % 2 === 0) {
    throw new ConfigError(
      "conv2d.padding",
      'numbers, since "same" needs an odd kernel',
      `"same" for ${height}×${width}`,
    );
  }
  const [down, right] = stride;
  if (down !== 1 || right !== 1) {
    throw new ConfigError(
      "conv2d.padding",
      'numbers, since "same" needs stride 1',
      `"same" for stride ${down}×${right}`,
    );
  }
  return [(height - 1) / 2, (width - 1) / 2];
}
