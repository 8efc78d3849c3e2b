package org.apache.beam.runners.fnexecution.control;

import java.util.Comparator;
import java.util.PriorityQueue;
import java.util.Queue;
import java.util.UUID;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.StateInternalsFactory;
import org.apache.beam.runners.core.StateNamespace;
import org.apache.beam.runners.core.StateNamespaces;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternalsFactory;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.state.ValueState;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.util.WindowedValue;
import org.joda.time.Instant;

/**
 * Takes the place of Beam's class of this name, for job servers up to Beam 2.75.
 *
 * <p>Whenever a splittable DoFn ends a bundle before its work is done, the rest of the work becomes a value in Flink's
 * state and a timer, which share a name. Beam takes a new name each time. Flink keeps each name that it has ever seen,
 * so that memory and checkpoints of a stream grow for ever (https://github.com/apache/beam/issues/27648; mended in July
 * 2026). Here names are used again.
 */
public class BundleCheckpointHandlers {

  /** What {@code ExecutableStageDoFnOperator} makes, and whose timers it knows by their names. */
  public static class StateAndTimerBundleCheckpointHandler<T> implements BundleCheckpointHandler {
    public static final String SDF_PREFIX = "sdf_checkpoint";

    /**
     * A name is free again so long after its timer was due. Flink fires timers in the order of their times, so that the
     * timer has fired when one that is due later has, and only then does a stream come here again.
     */
    private static final long REST_MILLIS = 60_000;

    private final TimerInternalsFactory<T> timers;
    private final StateInternalsFactory<T> states;
    private final Coder<WindowedValue<T>> coder;
    private final Coder<BoundedWindow> windowCoder;

    /** Restored timers have names of handlers before this one. */
    private final String prefix = SDF_PREFIX + ":" + UUID.randomUUID() + ":";

    /** The names in use, that which is due first at the head. */
    private final Queue<Pending> pending = new PriorityQueue<>(Comparator.comparing((Pending one) -> one.due));

    private long names = 0;

    @SuppressWarnings({"unchecked", "rawtypes"})
    public StateAndTimerBundleCheckpointHandler(
        TimerInternalsFactory<T> timers, StateInternalsFactory<T> states, Coder<WindowedValue<T>> coder, Coder windowCoder) {
      this.timers = timers;
      this.states = states;
      this.coder = coder;
      this.windowCoder = windowCoder;
    }

    /** Whether a timer is one of these. */
    public static boolean isSdfTimer(String name) {
      return name.startsWith(SDF_PREFIX);
    }

    @Override
    public void onCheckpoint(ProcessBundleResponse response) {
      for (DelayedBundleApplication rest : response.getResidualRootsList()) {
        if (rest.hasApplication()) {
          try {
            resumeLater(rest);
          } catch (Exception error) {
            throw new RuntimeException("What is left of a bundle cannot be kept for later", error);
          }
        }
      }
    }

    private void resumeLater(DelayedBundleApplication rest) throws Exception {
      WindowedValue<T> value =
          CoderUtils.decodeFromByteArray(coder, rest.getApplication().getElement().toByteArray());
      Instant due = Instant.now().plus(delayMillis(rest));
      for (BoundedWindow window : value.getWindows()) {
        StateNamespace namespace = StateNamespaces.window(windowCoder, window);
        String name = freeName();
        timers
            .timerInternalsForKey(value.getValue())
            .setTimer(namespace, name, "", due, watermarkHold(rest), TimeDomain.PROCESSING_TIME);
        stateOf(value.getValue(), namespace, name)
            .write(WindowedValue.of(value.getValue(), value.getTimestamp(), window, value.getPane()));
        pending.add(new Pending(name, due, value.getValue(), namespace));
      }
    }

    private String freeName() {
      Pending oldest = pending.peek();
      if (oldest == null || oldest.due.plus(REST_MILLIS).isAfterNow()) {
        return prefix + names++;
      }
      pending.remove();
      stateOf(oldest.element, oldest.namespace, oldest.name).clear();
      return oldest.name;
    }

    private ValueState<WindowedValue<T>> stateOf(T element, StateNamespace namespace, String name) {
      return states.stateInternalsForKey(element).state(namespace, StateTags.value(name, coder));
    }

    private static long delayMillis(DelayedBundleApplication rest) {
      var delay = rest.getRequestedTimeDelay();
      return delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
    }

    /** The least watermark of the outputs: what comes of the rest is not late. */
    private static Instant watermarkHold(DelayedBundleApplication rest) {
      var watermarks = rest.getApplication().getOutputWatermarksMap().values();
      return Instant.ofEpochMilli(
          watermarks.stream()
              .mapToLong(time -> time.getSeconds() * 1000 + time.getNanos() / 1_000_000)
              .min()
              .orElse(BoundedWindow.TIMESTAMP_MIN_VALUE.getMillis()));
    }

    /** A name that a timer may still need. */
    private final class Pending {
      private final String name;
      private final Instant due;
      private final T element;
      private final StateNamespace namespace;

      private Pending(String name, Instant due, T element, StateNamespace namespace) {
        this.name = name;
        this.due = due;
        this.element = element;
        this.namespace = namespace;
      }
    }
  }
}
