// Runs in the audio thread: 16 kHz floats in, blocks of 100 ms of 16-bit integers out.
const BLOCK = 1600;

class Blocks extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.peak = 0;
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      const value = Math.max(-1, Math.min(1, sample));
      this.peak = Math.max(this.peak, Math.abs(value));
      this.block[this.filled++] = value < 0 ? value * 0x8000 : value * 0x7fff;
      if (this.filled < BLOCK) continue;
      this.port.postMessage({ block: this.block.buffer, peak: this.peak }, [this.block.buffer]);
      this.block = new Int16Array(BLOCK);
      this.filled = 0;
      this.peak = 0;
    }
    return true;
  }
}

registerProcessor("blocks", Blocks);
