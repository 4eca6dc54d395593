import { trial } from './stack.js';
globalThis.trial = trial;
