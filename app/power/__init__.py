"""How much power does this machine draw, and what does a frame cost?"""

from app.power.meter import PowerMeter, PowerReading
from app.power.sensors import PowerSensor, find_sensors
from app.power.sink import Energy, EnergySink

__all__ = ["Energy", "EnergySink", "PowerMeter", "PowerReading", "PowerSensor", "find_sensors"]
