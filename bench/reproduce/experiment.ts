/**
 * What a reproduction of published results is: runs, a table beside the published figures, curves.
 *
 * @module
 */

/** Values of the command line that every experiment understands. */
export interface ReproduceOptions {
  /** Runs of each setting, with seeds of their own. */
  readonly runs: number;
  /** Only settings whose name contains this. */
  readonly only: string;
  /** Share of the training rows that a run takes, above 0 and up to 1; experiments without such a choice take all. */
  readonly share: number;
  /** Folder of the data sets, where it is not in the usual places. */
  readonly dataDir?: string;
  /** Whether data sets that are missing may be fetched. */
  readonly download: boolean;
  /** File with published results, where there is one. */
  readonly reference?: string;
  /** Called with a line now and then. */
  readonly report: (line: string) => void;
}

/** A table: a heading for each column, cells as text. */
export interface ResultTable {
  /** What it shows. */
  readonly title: string;
  /** Headings. */
  readonly head: readonly string[];
  /** Rows. */
  readonly rows: readonly (readonly string[])[];
}

/** A chart: a name for its file and a Vega-Lite specification. */
export interface Chart {
  /** Name without ending. */
  readonly name: string;
  /** The specification, data included. */
  readonly spec: Record<string, unknown>;
}

/** What comes out. */
export interface Outcome {
  /** Tables, in order. */
  readonly tables: readonly ResultTable[];
  /** Charts. */
  readonly charts: readonly Chart[];
  /** All figures, for programs. */
  readonly figures: unknown;
  /** Figures that differ from the published ones by more than chance allows; empty where none does or nothing was compared. */
  readonly deviations: readonly string[];
}

/** An experiment. */
export interface Experiment {
  /** Name on the command line. */
  readonly name: string;
  /** One line. */
  readonly description: string;
  /** Where its results were published. */
  readonly paper: string;
  /** Runs of each setting where nothing else is said: those of the paper. */
  readonly runs: number;
  /** Does it. */
  readonly run: (options: ReproduceOptions) => Promise<Outcome>;
}
