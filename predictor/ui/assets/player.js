// The audio, and who wants to know where it is.

/** Plays a file, or a part of it. `onmove(seconds)` is called on every frame while it plays, and after a
 * jump; `onplaying(playing)` when it starts and stops. */
export class Player {
  constructor(url, duration) {
    this.audio = new Audio(url);
    this.audio.preload = "auto";
    this.duration = duration;
    this.until = Infinity;
    this.moved = [];
    this.switched = [];
    this.audio.addEventListener("play", () => { this.#tell(true); this.#follow(); });
    this.audio.addEventListener("pause", () => this.#tell(false));
    this.audio.addEventListener("seeked", () => this.#move());
  }

  get playing() { return !this.audio.paused; }
  get position() { return this.audio.currentTime; }

  toggle() {
    this.until = Infinity;
    if (this.playing) this.audio.pause();
    else this.#play();
  }

  /** Jump, and stay still or go on as before. */
  seek(seconds) {
    this.until = Infinity;
    this.audio.currentTime = Math.min(Math.max(0, seconds), this.duration);
  }

  playPart(start, end) {
    this.audio.currentTime = start;
    this.until = end;
    this.#play();
  }

  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.moved = [];
    this.switched = [];
  }

  /** A browser that cannot play has said so in an event of its own. */
  #play() { this.audio.play().catch(() => {}); }

  #tell(playing) { for (const listener of this.switched) listener(playing); }

  #move() { for (const listener of this.moved) listener(this.position); }

  #follow() {
    if (!this.playing) return;
    if (this.position >= this.until) {
      this.audio.pause();
      this.audio.currentTime = this.until;
      this.until = Infinity;
    }
    this.#move();
    requestAnimationFrame(() => this.#follow());
  }
}
