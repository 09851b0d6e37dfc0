/**
 * What PyTorch calls the parameters of a network, and how their order differs; docs/pytorch.md shows it in tables.
 *
 * @module
 */

import { CheckpointError } from "../errors.ts";
import type { Layer } from "../network/layers.ts";
import { type Network, networkGiven, type TensorDescription } from "../network/network.ts";

/** One tensor under both names. */
export interface Entry {
  /** Our tensor. */
  readonly tensor: TensorDescription;
  /** PyTorch's name. */
  readonly name: string;
  /**
   * Height, width and channels where the tensor's last axis counts the values of a flattened image: PyTorch counts channel by
   * channel, leanprop pixel by pixel.
   */
  readonly image: readonly number[] | undefined;
}

/**
 * The parameters and running statistics of a network with PyTorch's names: those of torchvision for a ResNet of basic blocks, our
 * own, which are those of `Sequential`, for every other network.
 *
 * @param network the network
 * @returns one entry for each tensor
 * @throws {CheckpointError} where an order has no counterpart
 */
export function pytorchEntries(network: Network): Entry[] {
  networkGiven(network);
  const { layers } = network.config;
  const modules = resnetModules(layers);
  const images = new Map<string, readonly number[]>();
  const shapes = new Map(network.describe().layers.map((layer) => [layer.name, layer.shape]));
  followImages(layers, { prefix: "", shape: network.config.input, image: undefined, shapes, images });
  return network.tensors().filter(({ group }) => group === "parameter" || group === "buffer").map((tensor) => {
    const dot = tensor.name.lastIndexOf(".");
    const [layer, parameter] = [tensor.name.slice(0, dot), tensor.name.slice(dot + 1)];
    const module = modules?.get(layer) ?? layer;
    // A bias counts outputs; of the two parameters of a dense layer only the weight has inputs.
    const image = parameter === "bias" && tensor.shape.length === 1 && isDense(layers, layer)
      ? undefined
      : images.get(layer);
    return { tensor, name: `${module}.${parameter}`, image };
  });
}

/** Where a walk through layers stands. */
interface Walk {
  /** What stands before the numbers of layers. */
  readonly prefix: string;
  /** Shape of the current value. */
  readonly shape: readonly number[];
  /** The image that the current value is, flattened, where its order differs. */
  readonly image: readonly number[] | undefined;
  /** Output shape of each layer. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Receives the image that each layer with parameters sees flattened. */
  readonly images: Map<string, readonly number[]>;
}

/** Notes which layers see a flattened image; returns the image that the last value is. */
function followImages(layers: readonly Layer[], walk: Walk): readonly number[] | undefined {
  const { prefix, shapes, images } = walk;
  let { shape, image } = walk;
  layers.forEach((layer, index) => {
    const name = `${prefix}${index}`;
    if (image) images.set(name, image);
    if (layer.kind === "flatten" && shape.length === 3) {
      const [height = 1, width = 1, channels = 1] = shape;
      image = height * width > 1 && channels > 1 ? shape : undefined;
    } else if (layer.kind === "dense") {
      image = undefined;
    } else if (layer.kind === "groupNorm" && image) {
      throw noCounterpart(name, layer.kind, "groups of a flattened image");
    } else if (layer.kind === "residual") {
      const [body, shortcut] = (["body", "shortcut"] as const).map((branch) =>
        followImages(layer[branch], { ...walk, prefix: `${name}.${branch}.`, shape, image })
      );
      if (String(body) !== String(shortcut)) {
        throw noCounterpart(name, layer.kind, "the sum of a flattened image and another value");
      }
      image = body;
    }
    shape = shapes.get(name) ?? shape;
  });
  return image;
}

function noCounterpart(layer: string, kind: string, what: string): CheckpointError {
  return new CheckpointError(`Cannot map layer ${layer} (${kind}) to PyTorch: ${what} cannot be reordered`);
}

/** Whether a layer, by its name, is a dense one. */
function isDense(layers: readonly Layer[], name: string): boolean {
  const [index = "", branch, ...rest] = name.split(".");
  const layer = layers[Number(index)];
  if (layer?.kind !== "residual") return layer?.kind === "dense";
  return isDense(branch === "body" ? layer.body : layer.shortcut, rest.join("."));
}

/**
 * Torchvision's module for each layer of a ResNet of basic blocks: stem, blocks, mean, dense layer. A block with a projection
 * begins a stage. Nothing for other networks.
 */
function resnetModules(layers: readonly Layer[]): Map<string, string> | undefined {
  const kinds = (some: readonly Layer[]) => some.map((layer) => layer.kind).join(" ");
  const blocks = layers.slice(3, -2);
  const shaped = kinds(layers.slice(0, 3)) === "conv2d batchNorm relu" &&
    kinds(layers.slice(-2)) === "globalAvgPool2d dense" &&
    blocks.length > 0 && blocks.length % 2 === 0;
  if (!shaped) return undefined;
  const modules = new Map([["0", "conv1"], ["1", "bn1"], [String(layers.length - 1), "fc"]]);
  let [stage, number] = [0, 0];
  for (let at = 0; at < blocks.length; at += 2) {
    const [block, after] = [blocks[at]!, blocks[at + 1]!];
    if (block.kind !== "residual" || after.kind !== "relu") return undefined;
    if (kinds(block.body) !== "conv2d batchNorm relu conv2d batchNorm") return undefined;
    if (!["", "conv2d batchNorm"].includes(kinds(block.shortcut))) return undefined;
    if (at === 0 || block.shortcut.length > 0) [stage, number] = [stage + 1, 0];
    else number++;
    const [ours, theirs] = [`${at + 3}`, `layer${stage}.${number}`];
    for (const [layer, module] of [["0", "conv1"], ["1", "bn1"], ["3", "conv2"], ["4", "bn2"]]) {
      modules.set(`${ours}.body.${layer}`, `${theirs}.${module}`);
    }
    for (const layer of ["0", "1"]) modules.set(`${ours}.shortcut.${layer}`, `${theirs}.downsample.${layer}`);
  }
  return modules;
}
