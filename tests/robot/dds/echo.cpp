// Another vendor's DDS: reads sensor_msgs/JointState, field by field, and sends it back.
// Usage: echo DOMAIN COUNT. Says "ready", then "done N" after COUNT messages or 60 s of silence.
#include <fastcdr/Cdr.h>
#include <fastcdr/FastBuffer.h>
#include <fastdds/dds/domain/DomainParticipant.hpp>
#include <fastdds/dds/domain/DomainParticipantFactory.hpp>
#include <fastdds/dds/publisher/DataWriter.hpp>
#include <fastdds/dds/publisher/Publisher.hpp>
#include <fastdds/dds/subscriber/DataReader.hpp>
#include <fastdds/dds/subscriber/SampleInfo.hpp>
#include <fastdds/dds/subscriber/Subscriber.hpp>
#include <fastdds/dds/topic/TopicDataType.hpp>
#include <fastdds/dds/topic/TypeSupport.hpp>
#include <fastdds/rtps/transport/UDPv4TransportDescriptor.h>
#include <fastrtps/utils/IPLocator.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace eprosima::fastdds::dds;
using eprosima::fastcdr::Cdr;
using eprosima::fastcdr::FastBuffer;

struct JointState {
  int32_t sec = 0;
  uint32_t nanosec = 0;
  std::string frame_id;
  std::vector<std::string> name;
  std::vector<double> position, velocity, effort;
};


class JointStateType : public TopicDataType {
 public:
  JointStateType() {
    setName("sensor_msgs::msg::dds_::JointState_");
    m_typeSize = 65536;
    m_isGetKeyDefined = false;
  }
  bool serialize(void* data, eprosima::fastrtps::rtps::SerializedPayload_t* out) override {
    auto* m = static_cast<JointState*>(data);
    FastBuffer buffer(reinterpret_cast<char*>(out->data), out->max_size);
    Cdr cdr(buffer, Cdr::DEFAULT_ENDIAN, Cdr::DDS_CDR);
    out->encapsulation = CDR_LE;
    cdr.serialize_encapsulation();
    cdr << m->sec << m->nanosec << m->frame_id << m->name << m->position << m->velocity
        << m->effort;
    out->length = static_cast<uint32_t>(cdr.getSerializedDataLength());
    return true;
  }
  bool deserialize(eprosima::fastrtps::rtps::SerializedPayload_t* in, void* data) override {
    auto* m = static_cast<JointState*>(data);
    FastBuffer buffer(reinterpret_cast<char*>(in->data), in->length);
    Cdr cdr(buffer, Cdr::DEFAULT_ENDIAN, Cdr::DDS_CDR);
    cdr.read_encapsulation();
    cdr >> m->sec >> m->nanosec >> m->frame_id >> m->name >> m->position >> m->velocity >>
        m->effort;
    return true;
  }
  std::function<uint32_t()> getSerializedSizeProvider(void*) override {
    return [] { return 65536u; };
  }
  void* createData() override { return new JointState; }
  void deleteData(void* data) override { delete static_cast<JointState*>(data); }
  bool getKey(void*, eprosima::fastrtps::rtps::InstanceHandle_t*, bool) override { return false; }
};

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int domain = std::atoi(argv[1]);
  const long wanted = std::atol(argv[2]);
  DomainParticipantQos qos;
  auto udp = std::make_shared<eprosima::fastdds::rtps::UDPv4TransportDescriptor>();
  udp->interfaceWhiteList.push_back("127.0.0.1");
  udp->sendBufferSize = udp->receiveBufferSize = 1 << 20;
  qos.transport().use_builtin_transports = false;
  qos.transport().user_transports.push_back(udp);
  for (int other = 0; other < 8; ++other) {
    eprosima::fastrtps::rtps::Locator_t peer;
    eprosima::fastrtps::rtps::IPLocator::setIPv4(peer, "127.0.0.1");
    peer.port = static_cast<uint32_t>(7410 + 250 * domain + 2 * other);
    qos.wire_protocol().builtin.initialPeersList.push_back(peer);
  }
  auto* participant = DomainParticipantFactory::get_instance()->create_participant(domain, qos);
  if (participant == nullptr) return 1;
  TypeSupport type(new JointStateType);
  type.register_type(participant);
  auto* in = participant->create_topic("rt/joint_states", type.get_type_name(), TOPIC_QOS_DEFAULT);
  auto* back = participant->create_topic("rt/echo", type.get_type_name(), TOPIC_QOS_DEFAULT);
  DataReaderQos reading = DATAREADER_QOS_DEFAULT;
  reading.reliability().kind = RELIABLE_RELIABILITY_QOS;
  reading.history().kind = KEEP_ALL_HISTORY_QOS;
  DataWriterQos writing = DATAWRITER_QOS_DEFAULT;
  writing.reliability().kind = RELIABLE_RELIABILITY_QOS;
  writing.reliability().max_blocking_time = {10, 0};
  writing.history().kind = KEEP_ALL_HISTORY_QOS;
  auto* reader =
      participant->create_subscriber(SUBSCRIBER_QOS_DEFAULT)->create_datareader(in, reading);
  auto* writer =
      participant->create_publisher(PUBLISHER_QOS_DEFAULT)->create_datawriter(back, writing);
  if (reader == nullptr || writer == nullptr) return 1;
  std::puts("ready");
  std::fflush(stdout);
  long count = 0;
  JointState message;
  SampleInfo info;
  while (count < wanted && reader->wait_for_unread_message({60, 0})) {
    while (reader->take_next_sample(&message, &info) == ReturnCode_t::RETCODE_OK) {
      if (!info.valid_data) continue;
      writer->write(&message);
      ++count;
    }
  }
  writer->wait_for_acknowledgments({30, 0});
  std::printf("done %ld\n", count);
  return 0;
}
