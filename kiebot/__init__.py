"""kiebot: a Telegram bot that sells AI pictures, video and audio, run as a leader-elected cluster of workers."""

__version__ = "0.1.0"
