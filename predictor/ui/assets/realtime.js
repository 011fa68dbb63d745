// One live session: the microphone on one side, the service's realtime events on the other.

const FINISH_MS = 10000; // The last words are waited for so long.
const BUFFERED_BYTES = 1 << 20; // Half a minute of audio that the network does not take: it is given up.

/** Starts at once. `on` has the functions `state(name, detail)` (connecting, waking, listening, finishing,
 * ended, failed), `event(event)` for the service's events and `level(loudness)` in [0, 1]. */
export class Session {
  constructor(options, on) {
    this.on = on;
    this.unanswered = new Set(); // Items that somebody began to say.
    this.#start(options).catch((error) => this.#end("failed", { message: error.message }));
  }

  /** No more audio; what was said is still answered. */
  stop() {
    this.#silence();
    if (!this.listening || this.socket.readyState !== WebSocket.OPEN) return this.#end("ended");
    this.finishing = true;
    this.on.state("finishing");
    this.#send({ type: "input_audio_buffer.commit" });
    this.timer = setTimeout(() => this.#end("ended"), FINISH_MS);
  }

  async #start(options) {
    this.on.state("connecting");
    if (!navigator.mediaDevices) throw new Error(window.sensevoice.text("live_insecure"));
    const wanted = { channelCount: 1, echoCancellation: true, noiseSuppression: true };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: wanted }).catch((error) => {
      throw new Error(window.sensevoice.text("live_no_microphone", { reason: error.message }));
    });
    const url = new URL("live", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.onmessage = ({ data }) => this.#receive(JSON.parse(data), options);
    this.socket.onclose = () => this.#end("ended");
  }

  async #listen() {
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(new URL("page/microphone.js", document.baseURI));
    const microphone = new AudioWorkletNode(this.context, "sv-microphone");
    microphone.port.onmessage = ({ data }) => this.#heard(data);
    this.context.createMediaStreamSource(this.stream).connect(microphone);
    await this.context.resume();
    this.listening = true;
    this.on.state("listening");
  }

  #heard(pcm) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > BUFFERED_BYTES) return void this.#end("ended");
    const loudest = new Int16Array(pcm).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.on.level(Math.sqrt(loudest / 32768));
    this.socket.send(pcm);
  }

  #receive(event, { language, useItn }) {
    if (event.type === "page.state") {
      if (event.state === "failed") this.#end("failed", event);
      else this.on.state(event.state, event);
    } else if (event.type === "session.created") {
      const transcription = { language, use_itn: useItn };
      this.#send({
        type: "session.update",
        session: { type: "transcription", audio: { input: { format: { type: "audio/pcm", rate: 16000 }, transcription } } },
      });
    } else if (event.type === "session.updated") {
      this.#listen().catch((error) => this.#end("failed", { message: error.message }));
    } else {
      this.#count(event);
      // An error, when finishing, only says that nobody was speaking.
      if (!(this.finishing && event.type === "error")) this.on.event(event);
      if (this.finishing && !this.unanswered.size) this.#end("ended");
    }
  }

  #count({ type, item_id }) {
    if (type.endsWith(".speech_started") || type.endsWith(".committed")) this.unanswered.add(item_id);
    else if (type.endsWith(".completed") || type.endsWith(".failed")) this.unanswered.delete(item_id);
  }

  #send(event) { this.socket.send(JSON.stringify(event)); }

  #silence() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
    this.stream = this.context = null;
    this.on.level(0);
  }

  #end(state, detail) {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    this.#silence();
    this.socket?.close();
    this.on.state(state, detail);
  }
}
