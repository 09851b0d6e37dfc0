/**
 * Ready-made networks.
 *
 * @module
 */

import { knownOptions, number } from "../config.ts";
import { ConfigError } from "../errors.ts";
import { batchNorm, conv2d, dense, flatten, globalAvgPool2d, type Layer, maxPool2d, relu, residual } from "./layers.ts";

/** What `Network.create` takes of a model. */
export interface Model {
  /** Shape of one sample. */
  readonly input: readonly number[];
  /** The layers. */
  readonly layers: Layer[];
}

/** Options of {@linkcode mlp}. */
export interface MlpOptions {
  /** Shape of one sample. */
  readonly input: readonly number[];
  /** Widths of the hidden layers. Default `[256, 128]`. */
  readonly hidden?: readonly number[];
  /** Number of outputs (classes). */
  readonly outputs: number;
}

/**
 * The layers of a multi-layer perceptron: dense layers with ReLU between them.
 *
 * @param options input shape, hidden widths, outputs
 * @returns `input` and `layers` for `Network.create`
 * @throws {ConfigError} where an option is unknown or cannot be used
 */
export function mlp(options: MlpOptions): Model {
  const { input, outputs } = checked("mlp", options, ["hidden"]);
  const { hidden = [256, 128] } = options;
  if (!Array.isArray(hidden)) throw new ConfigError("hidden", "a list of widths such as [256, 128]", hidden);
  const widths = hidden.map((width, index) => number(`hidden[${index}]`, width, { min: 1, whole: true }));
  const layers = widths.flatMap((width) => [dense(width), relu()]);
  return { input, layers: [...(input.length > 1 ? [flatten()] : []), ...layers, dense(outputs)] };
}

/** Options of {@linkcode cnn} and {@linkcode convnet}. */
export interface ImageModelOptions {
  /** Shape of one image: [height, width, channels]. */
  readonly input: readonly number[];
  /** Number of outputs (classes). */
  readonly outputs: number;
}

/** Options of {@linkcode resnet18}. */
export interface Resnet18Options extends ImageModelOptions {
  /** Factor on the channels 64, 128, 256, 512 of the four stages; above 0. Default 1. */
  readonly width?: number;
}

/**
 * The layers of a small convolutional network, for images like MNIST's: two 3×3 convolutions (32 and 64 filters) with ReLU and
 * 2×2 max pooling each, then dense layers.
 *
 * @param options input shape, outputs
 * @returns `input` and `layers` for `Network.create`
 * @throws {ConfigError} where an option is unknown or cannot be used
 */
export function cnn(options: ImageModelOptions): Model {
  const { input, outputs } = checked("cnn", options);
  const stage = (filters: number) => [conv2d(filters), relu(), maxPool2d()];
  return { input, layers: [...stage(32), ...stage(64), flatten(), dense(128), relu(), dense(outputs)] };
}

/**
 * The layers of a convolutional network for quick studies on images like CIFAR's: four 3×3 convolutions (32, 32, 64, 64 filters)
 * that keep height and width, 2×2 max pooling after the second and the fourth, then dense layers.
 *
 * @param options input shape, outputs
 * @returns `input` and `layers` for `Network.create`
 * @throws {ConfigError} where an option is unknown or cannot be used
 */
export function convnet(options: ImageModelOptions): Model {
  const { input, outputs } = checked("convnet", options);
  const conv = (filters: number) => [conv2d(filters, { padding: "same" }), relu()];
  const stage = (filters: number) => [...conv(filters), ...conv(filters), maxPool2d()];
  return { input, layers: [...stage(32), ...stage(64), flatten(), dense(128), relu(), dense(outputs)] };
}

/**
 * The layers of ResNet-18 (He et al. 2016) in its form for CIFAR: a 3×3 stem without pooling, four stages of two residual blocks
 * with 64, 128, 256 and 512 channels, the last three of which begin with stride 2 and a 1×1 projection.
 *
 * @param options input shape, outputs, width factor
 * @returns `input` and `layers` for `Network.create`
 * @throws {ConfigError} where an option is unknown or cannot be used
 */
export function resnet18(options: Resnet18Options): Model {
  const { input, outputs } = checked("resnet18", options, ["width"]);
  const width = number("width", options.width ?? 1, { above: 0 });
  const conv = (filters: number, kernel: number, stride: number) =>
    conv2d(filters, { kernel, stride, padding: (kernel - 1) / 2, bias: false });
  const block = (filters: number, { stride, project }: { stride: number; project: boolean }): Layer[] => [
    residual(
      [conv(filters, 3, stride), batchNorm(), relu(), conv(filters, 3, 1), batchNorm()],
      project ? [conv(filters, 1, stride), batchNorm()] : [],
    ),
    relu(),
  ];
  const channels = [64, 128, 256, 512].map((count) => Math.max(1, Math.round(count * width)));
  const stem = channels[0]!;
  const stages = channels.flatMap((filters, stage) => [
    ...block(filters, { stride: stage === 0 ? 1 : 2, project: stage > 0 }),
    ...block(filters, { stride: 1, project: false }),
  ]);
  const layers = [conv(stem, 3, 1), batchNorm(), relu(), ...stages, globalAvgPool2d(), dense(outputs)];
  return { input, layers };
}

/** What all models take, checked: a misspelt width would otherwise give the full-size network without a word. */
function checked<O extends ImageModelOptions>(model: string, options: O, more: readonly (keyof O & string)[] = []): O {
  knownOptions(model, options, ["input", "outputs", ...more]);
  if (!Array.isArray(options.input)) throw new ConfigError("input", "a shape such as [28, 28, 1]", options.input);
  number("outputs", options.outputs, { min: 1, whole: true });
  return options;
}
