// Audio worklet: the microphone's samples as 16-bit PCM at 16 kHz, a tenth of a second at a time.

const RATE = 16000;
const BLOCK = RATE / 10;

registerProcessor("sv-microphone", class extends AudioWorkletProcessor {
  block = new Int16Array(BLOCK);
  filled = 0;
  sum = 0; // Of the input samples that fall into the output sample under way,
  weight = 0; // and how much of it they cover, in input samples.

  process([[channel]]) {
    if (!channel) return true;
    const step = sampleRate / RATE;
    for (const sample of channel) {
      const room = step - this.weight;
      const part = Math.min(1, room);
      this.sum += sample * part;
      this.weight += part;
      if (this.weight >= step - 1e-9) {
        this.put(this.sum / step);
        this.sum = sample * (1 - part);
        this.weight = 1 - part;
      }
    }
    return true;
  }

  put(sample) {
    this.block[this.filled++] = Math.round(Math.max(-1, Math.min(1, sample)) * 32767);
    if (this.filled < BLOCK) return;
    this.port.postMessage(this.block.buffer, [this.block.buffer]);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
  }
});
