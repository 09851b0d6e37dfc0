/**
 * Seeded random numbers for data: splits, shuffles and the sets made by code.
 *
 * Each (seed, stream) pair gives its own sequence, so that row 17 of a generated set is the same whether or not row 16
 * was made. The generator is sfc32 (Chris Doty-Humphrey, PractRand), keyed by the finaliser of MurmurHash3 (Austin
 * Appleby). Only 32-bit integer arithmetic and exact floating-point steps are used: every machine gives the same bits.
 * Not for secrets.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";

/** A sequence of random numbers. */
export interface Random {
  /** 32 random bits as a whole number from 0 to 2³² - 1. */
  bits(): number;
  /** A number from 0 (included) to 1 (excluded), with 32 random bits. */
  unit(): number;
  /** A number from `low` (included) to `high` (excluded). */
  between(low: number, high: number): number;
  /** A whole number from 0 to `count - 1`, each equally likely; `count` from 1 to 2³². */
  below(count: number): number;
  /** A bell-shaped number with mean 0 and deviation 1: the sum of twelve uniform numbers less 6, so within ±6. */
  bell(): number;
}

/**
 * Makes a sequence of random numbers.
 *
 * @param seed whole number from 0 to 2⁵³ - 1
 * @param stream tells sequences of one seed apart; whole number from 0 to 2³² - 1, default 0
 * @returns the sequence
 * @throws {ConfigError} where the seed is no such number
 */
export function createRandom(seed: number, stream = 0): Random {
  checkSeed(seed);
  const low = seed >>> 0;
  const high = Math.floor(seed / 2 ** 32) >>> 0;
  let a = mix(low ^ 0x9e3779b9);
  let b = mix(high ^ a);
  let c = mix((stream >>> 0) ^ b);
  let counter = 1;

  function bits(): number {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
  // The first outputs of neighbouring keys are alike; twelve rounds is what the generator's author runs.
  for (let round = 0; round < 12; round++) bits();

  function unit(): number {
    return bits() / 4294967296;
  }
  function between(lowest: number, highest: number): number {
    return lowest + (highest - lowest) * unit();
  }
  function below(count: number): number {
    // Draws above the last whole multiple of `count` would favour small numbers: draw again.
    const limit = 4294967296 - (4294967296 % count);
    let draw = bits();
    while (draw >= limit) draw = bits();
    return draw % count;
  }
  function bell(): number {
    let sum = -6;
    for (let draw = 0; draw < 12; draw++) sum += unit();
    return sum;
  }
  return { bits, unit, between, below, bell };
}

/**
 * The numbers 0 to `count - 1` in random order (Fisher and Yates).
 *
 * @param count how many
 * @param seed see {@linkcode createRandom}
 * @returns the order
 * @throws {ConfigError} where the seed cannot be used
 */
export function permutation(count: number, seed: number): Uint32Array<ArrayBuffer> {
  const random = createRandom(seed);
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = random.below(last + 1);
    const kept = order[last]!;
    order[last] = order[other]!;
    order[other] = kept;
  }
  return order;
}

/**
 * Refuses what is no seed.
 *
 * @param seed the value to check
 * @throws {ConfigError} unless it is a whole number from 0 to 2⁵³ - 1
 */
export function checkSeed(seed: number): void {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new ConfigError("seed", "a whole number from 0 to 9007199254740991", seed);
  }
}

/** Spreads every input bit over all output bits (finaliser of MurmurHash3). */
function mix(word: number): number {
  let mixed = word | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
