"""scikit-learn's callbacks (1.9 and later), or their silent absence before."""

from __future__ import annotations

from contextlib import nullcontext

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class _NoContext:
        def subcontext(self, **_):
            return self

        def call_on_fit_task_begin(self, **_):
            return self

        def call_on_fit_task_end(self, **_):
            return False

        def propagate_callback_context(self, _):
            return nullcontext()

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in that runs no callback."""

        def _init_callback_context(self, **_):
            return _NoContext()

    def with_callbacks(method):
        return method


__all__ = ["CallbackSupportMixin", "with_callbacks"]
