"""Durations and sizes as people read them."""


def duration_text(seconds: float) -> str:
    """Write a duration: `0.42 s`, `12.3 s`, `3 min 20 s`, `1 h 02 min`, `2 d 03 h`."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def bytes_text(num_bytes: int) -> str:
    """Write a size in powers of ten, two figures or more: `812 B`, `4.2 kB`, `55 MB`."""
    size, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.1f} {units[0]}" if size < 9.95 and units[0] != "B" else f"{size:.0f} {units[0]}"


def left_text(seconds: float) -> str:
    """Write an estimated duration, without fractions of a second."""
    return f"{seconds:.0f} s" if seconds < 59.5 else duration_text(seconds)
